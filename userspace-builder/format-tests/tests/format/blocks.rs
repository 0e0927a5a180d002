// SPDX-License-Identifier: Apache-2.0

//! Rootfs blobs that say where the message is: what the `capnp` crate writes is what we read,
//! and of what is damaged no more is accepted than what it reads, too.

use capnp::message::{Builder, ReaderOptions};
use format_tests::damage::{apply, damage};
use format_tests::metadata_capnp as wire;
use format_tests::relocate::relocate;
use format_tests::{config, model};
use proptest::collection::vec;
use proptest::prelude::*;
use puzzlefs_format::limits::{BLOCK_BYTES, MAX_ROOTFS_BYTES};
use puzzlefs_format::{Block, ChunkRef, Digest, Error, Part, Rootfs, RootfsBlob, Source};

/// A block: digest, offset and whether compressed, or a hole; and its length.
type Item = (Option<([u8; 32], u64, bool)>, u64);

fn write_blocks(version: u64, blocks: &[Item]) -> Vec<u8> {
    let mut message = Builder::new_default();
    let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
    rootfs.set_manifest_version(version);
    let mut list = rootfs.init_blocks(u32::try_from(blocks.len()).unwrap());
    for (index, (blob, len)) in (0..).zip(blocks) {
        let mut to = list.reborrow().get(index);
        to.set_len(*len);
        if let Some((digest, offset, compressed)) = blob {
            let mut blob = to.init_blob();
            blob.set_digest(digest);
            blob.set_offset(*offset);
            blob.set_compressed(*compressed);
        }
    }
    capnp::serialize::write_message_to_words(&message)
}

/// Blocks as they have to be.
fn blocks() -> impl Strategy<Value = Vec<Item>> {
    let chunk = (any::<[u8; 32]>(), Just(0), any::<bool>());
    (vec(chunk, 1..9), 1..=BLOCK_BYTES).prop_map(|(chunks, last)| {
        let mut blocks: Vec<Item> = chunks
            .into_iter()
            .map(|chunk| (Some(chunk), BLOCK_BYTES))
            .collect();
        blocks.last_mut().unwrap().1 = last;
        blocks
    })
}

/// A Rootfs blob that has, or claims to have, a copy of the root directory.
fn write_root(ino: u64, links: u32, entries: u64, has_xattrs: bool, is_dir: bool) -> Vec<u8> {
    let mut message = Builder::new_default();
    let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
    rootfs.set_manifest_version(6);
    let mut block = rootfs.reborrow().init_blocks(1).get(0);
    block.set_len(9);
    block.init_blob().set_digest(&[7; 32]);
    let mut root = rootfs.init_root();
    root.set_ino(ino);
    root.set_permissions(0o755);
    root.set_nlink(links);
    root.set_size(entries);
    if has_xattrs {
        root.reborrow().init_additional();
    }
    match is_dir {
        true => drop(root.init_mode().init_dir()),
        false => root.init_mode().set_fifo(()),
    }
    capnp::serialize::write_message_to_words(&message)
}

#[test]
fn root() {
    let check = |message: &[u8]| match RootfsBlob::parse(message).unwrap() {
        RootfsBlob::Blocks(blocks) => blocks.root().map(|root| {
            root.map(|root| {
                let has_xattrs = root.may_have_xattrs().unwrap();
                (root.nlink(), root.recorded_size(), has_xattrs)
            })
        }),
        RootfsBlob::Whole(_) => panic!("it has blocks"),
    };
    let chunk = (Some(([7; 32], 0, false)), 9);
    assert_eq!(check(&write_blocks(6, &[chunk])), Ok(None));
    for has_xattrs in [false, true] {
        let message = write_root(1, 4, 20, has_xattrs, true);
        assert_eq!(check(&message), Ok(Some((Some(4), Some(20), has_xattrs))));
    }
    let copy = check(&write_root(1, 0, 20, false, true));
    assert_eq!(copy, Ok(Some((None, Some(20), false))));
    // Whoever wants its size would look for its entries, which are in the message.
    assert_eq!(check(&write_root(1, 4, 0, false, true)), Ok(None));
    let none = Err(Error::NoRootDirectory);
    assert_eq!(check(&write_root(2, 4, 20, false, true)), none);
    assert_eq!(check(&write_root(1, 4, 20, false, false)), none);
}

fn parse(message: &[u8]) -> Result<Vec<Block>, Error> {
    match RootfsBlob::parse(message)? {
        RootfsBlob::Whole(_) => Ok(Vec::new()),
        RootfsBlob::Blocks(blocks) => {
            let list: Vec<Block> = blocks.iter().collect::<Result<_, _>>()?;
            assert_eq!(list.len(), blocks.len() as usize);
            assert_eq!(list.iter().map(|b| b.len).sum::<u64>(), blocks.total());
            Ok(list)
        }
    }
}

/// What we accept of a message is what the other reader says; how many blocks that is.
fn agree(message: &[u8]) -> usize {
    let Ok(ours) = parse(message) else {
        return 0;
    };
    if ours.is_empty() {
        return 0;
    }
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    let reader = capnp::serialize::read_message(message, options).expect("message");
    let theirs: wire::rootfs::Reader<'_> = reader.get_root().expect("root");
    assert_eq!(theirs.get_manifest_version(), 6);
    let theirs = theirs.get_blocks().expect("blocks");
    assert_eq!(theirs.len() as usize, ours.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        let blob = theirs.get_blob().expect("blob");
        let digest: [u8; 32] = blob.get_digest().expect("digest").try_into().unwrap();
        let chunk = ChunkRef {
            digest: Digest::from_bytes(digest),
            offset: blob.get_offset(),
            compressed: blob.get_compressed(),
        };
        let len = theirs.get_len();
        assert_eq!(*ours, Block { chunk, len });
    }
    ours.len()
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn valid(blocks in blocks(), segments in 1..9usize, seed: u64) {
        let message = relocate(&write_blocks(6, &blocks), segments, seed);
        prop_assert_eq!(agree(&message), blocks.len());
        // It is no message with metadata.
        prop_assert_eq!(Rootfs::parse(&message).err(), Some(Error::BadBlocks));
    }

    #[test]
    fn damaged(
        blocks in blocks(),
        segments in 1..6usize,
        seed: u64,
        damage in vec(damage(), 1..4),
    ) {
        let mut message = relocate(&write_blocks(6, &blocks), segments, seed);
        apply(&mut message, &damage);
        agree(&message);
    }

    #[test]
    fn whole(rootfs in model::rootfs(), segment_words in 1..99u32) {
        let message = rootfs.write(segment_words);
        prop_assert!(matches!(RootfsBlob::parse(&message), Ok(RootfsBlob::Whole(_))));
    }
}

#[test]
fn bad_lists() {
    let chunk = |offset| Some(([7; 32], offset, true));
    let full = (chunk(0), BLOCK_BYTES);
    let check = |blocks: &[Item]| parse(&write_blocks(6, blocks)).map(|blocks| blocks.len());
    assert_eq!(check(&[full, full, (chunk(0), 1)]), Ok(3));
    for bad in [
        [full, (chunk(0), BLOCK_BYTES - 1), full],
        [full, (chunk(0), BLOCK_BYTES + 1), full],
        [full, full, (chunk(0), BLOCK_BYTES + 1)],
        [full, (chunk(1), BLOCK_BYTES), full],
        [full, full, (chunk(1), 5)],
    ] {
        assert_eq!(check(&bad), Err(Error::BadBlocks), "{bad:?}");
    }
    for bad in [(None, BLOCK_BYTES), (chunk(0), 0)] {
        assert_eq!(check(&[full, bad, full]), Err(Error::BadExtent), "{bad:?}");
    }
}

#[test]
fn versions() {
    let blocks = [(Some(([7; 32], 0, false)), 9)];
    // Before, nobody knew the field.
    for version in 3..6 {
        assert_eq!(parse(&write_blocks(version, &blocks)), Ok(Vec::new()));
    }
    assert_eq!(parse(&write_blocks(6, &blocks)).map(|b| b.len()), Ok(1));
    assert_eq!(parse(&write_blocks(6, &[])), Ok(Vec::new()));
    let next = parse(&write_blocks(7, &blocks));
    assert_eq!(next, Err(Error::UnsupportedVersion(7)));
}

/// A message in memory that passes for one in blocks.
struct Elsewhere(Vec<u8>);

impl Source for Elsewhere {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn part(&self, _: usize) -> Result<Part<'_>, Error> {
        let bytes = &self.0[..];
        Ok(Part { start: 0, bytes })
    }

    fn join(&self, _: usize, _: usize) -> Result<&[u8], Error> {
        panic!("all is in one part");
    }

    // What it lends is in memory anyway.
    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn Source) -> Result<(), Error>,
    ) -> Result<(), Error> {
        function(self)
    }
}

/// The message has the version of its blob, and no blocks of its own.
#[test]
fn messages() {
    let block = (Some(([7; 32], 0, false)), 9);
    for (message, blob, found) in [
        (write_blocks(6, &[]), 6, Ok(6)),
        (write_blocks(5, &[]), 6, Err(Error::BadBlocks)),
        (write_blocks(3, &[]), 6, Err(Error::BadBlocks)),
        (write_blocks(6, &[]), 7, Err(Error::BadBlocks)),
        (write_blocks(6, &[block]), 6, Err(Error::BadBlocks)),
        // To its reader this has none, but is of another version.
        (write_blocks(5, &[block]), 6, Err(Error::BadBlocks)),
    ] {
        let source = Elsewhere(message);
        let rootfs = Rootfs::parse_source(&source, blob);
        assert_eq!(rootfs.map(|rootfs| rootfs.version()), found);
    }
}

/// The message may be as long as one that is whole.
#[test]
fn longest() {
    let most = u64::try_from(MAX_ROOTFS_BYTES).unwrap() / BLOCK_BYTES;
    let full = (Some(([7; 32], 0, false)), BLOCK_BYTES);
    let mut blocks = vec![full; usize::try_from(most).unwrap()];
    let count = |blocks: &[Item]| parse(&write_blocks(6, blocks)).map(|blocks| blocks.len());
    assert_eq!(count(&blocks), Ok(blocks.len()));
    blocks.push((full.0, 1));
    assert_eq!(count(&blocks), Err(Error::LimitExceeded));
}
