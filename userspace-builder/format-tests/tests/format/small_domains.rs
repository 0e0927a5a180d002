// SPDX-License-Identifier: Apache-2.0

//! The arithmetic of extents and blocks on small domains, each value with each other one,
//! against the same in numbers that cannot overflow. What is inside of the core's reader of
//! messages has its tests there (schema/capnp/message/tests.rs).

use capnp::message::Builder;
use format_tests::metadata_capnp as wire;
use puzzlefs_format::limits::{BLOCK_BYTES, MAX_CHUNK_BYTES, MAX_FILE_BYTES};
use puzzlefs_format::{locate, Error, Extents, Kind, Located, Rootfs, RootfsBlob};

/// All lists of up to `max` of `items`.
fn lists<T: Copy>(items: &[T], max: usize) -> Vec<Vec<T>> {
    let mut found = vec![Vec::new()];
    let mut begin = 0;
    for _ in 0..max {
        let end = found.len();
        for at in begin..end {
            for item in items {
                let mut list = found[at].clone();
                list.push(*item);
                found.push(list);
            }
        }
        begin = end;
    }
    found
}

#[test]
fn every_position_of_small_files() {
    for lens in lists(&[1u64, 2, 3], 5) {
        let mut ends = Vec::new();
        let mut all = Vec::new();
        for (index, len) in lens.iter().enumerate() {
            ends.push(ends.last().unwrap_or(&0) + len);
            all.extend((0..*len).map(|within| (index, within, len - within)));
        }
        for pos in 0..20 {
            let found = locate(&ends, pos).map(|found| (found.index, found.within, found.left));
            let want = usize::try_from(pos).ok().and_then(|pos| all.get(pos));
            assert_eq!(found, want.copied(), "{pos} of {lens:?}");
        }
        assert_eq!(locate(&ends, u64::MAX), None);
    }
}

/// Ends that do not rise are made by nobody. What they lead to need not make sense, but it
/// lies in an extent.
#[test]
fn ends_in_disorder() {
    for ends in lists(&[0, 1, 2, u64::MAX - 1, u64::MAX], 4) {
        for pos in [0, 1, 2, 3, u64::MAX - 1, u64::MAX] {
            if let Some(Located { index, left, .. }) = locate(&ends, pos) {
                assert!(left > 0 && index < ends.len(), "{pos} of {ends:?}");
            }
        }
    }
}

/// Length and offset of an extent; no offset for a hole.
type Item = (u64, Option<u64>);

fn fill(to: wire::file_chunk::Builder<'_>, (len, offset): Item) {
    let mut to = to;
    to.set_len(len);
    if let Some(offset) = offset {
        let mut blob = to.init_blob();
        blob.set_digest(&[7; 32]);
        blob.set_offset(offset);
    }
}

/// Those of `lens` with each of `offsets`, and as holes.
fn items(lens: &[u64], offsets: &[u64]) -> Vec<Item> {
    let offsets = offsets.iter().copied().map(Some).chain([None]);
    offsets
        .flat_map(|offset| lens.iter().map(move |len| (*len, offset)))
        .collect()
}

#[test]
fn blocks() {
    let most = BLOCK_BYTES;
    let items = items(&[0, 1, most - 1, most, most + 1, u64::MAX], &[0, 1]);
    for list in lists(&items, 3).into_iter().filter(|list| !list.is_empty()) {
        let mut message = Builder::new_default();
        let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
        rootfs.set_manifest_version(6);
        let mut blocks = rootfs.init_blocks(u32::try_from(list.len()).unwrap());
        for (index, item) in (0..).zip(&list) {
            fill(blocks.reborrow().get(index), *item);
        }
        let message = capnp::serialize::write_message_to_words(&message);

        let is_last = |index| index + 1 == list.len();
        let is_good = |(index, (len, offset)): (usize, &Item)| {
            let fits = if is_last(index) {
                1..=most
            } else {
                most..=most
            };
            *offset == Some(0) && fits.contains(len)
        };
        let good = list
            .iter()
            .enumerate()
            .filter(|item| is_good(*item))
            .count();
        let total: u128 = list.iter().map(|(len, _)| u128::from(*len)).sum();
        let parsed = match RootfsBlob::parse(&message) {
            Ok(RootfsBlob::Blocks(blocks)) => Ok(blocks),
            Ok(RootfsBlob::Whole(_)) => panic!("it has blocks: {list:?}"),
            Err(error) => Err(error),
        };
        // That a block that is not the last one is bad shows when it is asked for.
        let is_parsed = is_good((list.len() - 1, list.last().unwrap()));
        assert_eq!(parsed.is_ok(), is_parsed, "{list:?}");
        if let Ok(blocks) = parsed {
            assert_eq!(
                blocks.iter().filter(Result::is_ok).count(),
                good,
                "{list:?}"
            );
            if good == list.len() {
                assert_eq!(u128::from(blocks.total()), total, "{list:?}");
            }
        }
    }
}

/// Lets `look` at the extents of a file that consists of `list`, and has the size `recorded`.
fn with_extents<T>(list: &[Item], recorded: u64, look: impl FnOnce(Extents<'_>) -> T) -> T {
    let mut message = Builder::new_default();
    let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
    rootfs.set_manifest_version(4);
    let vector = rootfs.init_metadatas(1).get(0);
    let mut inode = vector.init_inodes(1).get(0);
    inode.set_ino(1);
    inode.set_size(recorded);
    let count = u32::try_from(list.len()).unwrap();
    let mut chunks = inode.init_mode().init_file(count);
    for (index, item) in (0..).zip(list) {
        fill(chunks.reborrow().get(index), *item);
    }
    let message = capnp::serialize::write_message_to_words(&message);
    let rootfs = Rootfs::parse(&message).unwrap();
    match rootfs.inode(1).unwrap().expect("an inode").kind().unwrap() {
        Kind::File(extents) => look(extents),
        _ => panic!("a file"),
    }
}

#[test]
fn extents() {
    let most = MAX_CHUNK_BYTES;
    let lens = [0, 1, most - 1, most, most + 1, MAX_FILE_BYTES, u64::MAX];
    let items = items(&lens, &[0, 1, most, u64::MAX]);
    for list in lists(&items, 2) {
        let is_good = |(len, offset): &Item| match offset {
            None => *len > 0,
            Some(offset) => *len > 0 && u128::from(*len) + u128::from(*offset) <= most.into(),
        };
        let total: u128 = list.iter().map(|(len, _)| u128::from(*len)).sum();
        let is_file = list.iter().all(is_good) && total <= MAX_FILE_BYTES.into();
        with_extents(&list, 0, |extents| {
            let good = extents.iter().filter(Result::is_ok).count();
            let want = list.iter().filter(|item| is_good(item)).count();
            assert_eq!(good, want, "{list:?}");
            let found = extents.total().ok().map(u128::from);
            assert_eq!(found, is_file.then_some(total), "{list:?}");
        });
        if is_file && total > 1 {
            let total = u64::try_from(total).unwrap();
            assert_eq!(with_extents(&list, total, |e| e.total()), Ok(total));
            let short = with_extents(&list, total - 1, |e| e.total());
            assert_eq!(short, Err(Error::SizeMismatch), "{list:?}");
        }
    }
}
