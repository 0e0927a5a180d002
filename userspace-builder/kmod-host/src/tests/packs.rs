// SPDX-License-Identifier: GPL-2.0

//! The room `chunks`.

use super::{chunks, digest, image, layout, packs};
use crate::chunk::{content, entries, name, pack, pack_with};
use crate::chunks::{Indexes, Source};
use crate::message::{extent, files};
use crate::report::{Faults, Purpose};
use crate::{How, Machine};
use kernel::{alloc, prelude::*};
use puzzlefs_format::{limits, Digest, PackEntry};
use std::collections::BTreeSet;
use vfs::{lower::Layout, parallel::Tasks, KernelLog, Lines, PageCache, Shrink};

const WAY: How = How {
    window: 1 << 17,
    seed: 3,
};

fn faults(lines: &Lines) -> Faults {
    Faults::new(KernelLog::new(lines).unwrap())
}

fn some_chunks(from: u64, count: u64) -> Vec<Vec<u8>> {
    (from..from + count)
        .map(|seed| content(3000, seed))
        .collect()
}

#[test]
fn a_pack_that_is_none_is_read_once_and_remembered() {
    let sound = some_chunks(1, 3);
    let junk = vec![b'x'; 5000];
    let listed = [junk, pack(&sound)];
    let layout = layout(&listed);
    let lines = Lines::new(10);
    let indexes = Indexes::new().unwrap();
    let packs = packs(&layout, &indexes, &listed);
    let faults = faults(&lines);
    assert!(packs.find(&digest(&sound[0]), &faults).unwrap().is_some());
    let (reads, ..) = layout.counts();
    for _ in 0..50 {
        assert!(packs.find(&digest(b"nowhere"), &faults).unwrap().is_none());
    }
    assert_eq!(layout.counts().0, reads, "it was read again");
    let lines = lines.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("is not a pack"), "{lines:?}");
}

#[test]
fn a_pack_that_cannot_be_read_is_read_again() {
    let sound = some_chunks(1, 3);
    let layout = Layout::new();
    let bytes = pack(&sound);
    let off = vfs::FsVerity::Off;
    layout.insert_as(&name(&bytes), bytes.clone(), Some(EIO), off);
    let lines = Lines::new(10);
    let packs = packs(&layout, &Indexes::new().unwrap(), &[bytes]);
    let faults = faults(&lines);
    for times in 1..4 {
        assert!(packs.find(&digest(&sound[0]), &faults).unwrap().is_none());
        assert_eq!(layout.counts().0, times);
    }
    assert_eq!(lines.take().len(), 1, "said once");
}

#[test]
fn an_index_is_taken_back_and_read_again() {
    let sound = some_chunks(1, 300);
    let listed = [pack(&sound)];
    let layout = layout(&listed);
    let lines = Lines::new(10);
    let indexes = Indexes::new().unwrap();
    let packs = packs(&layout, &indexes, &listed);
    let faults = faults(&lines);
    let places: Vec<_> = sound
        .iter()
        .map(|chunk| packs.find(&digest(chunk), &faults).unwrap().unwrap())
        .collect();
    let pages = indexes.count();
    assert_eq!(pages, (300usize * 40).div_ceil(4096));
    for _ in 0..2 {
        let (before, (reads, ..)) = (alloc::in_use(), layout.counts());
        assert_eq!(indexes.shrink(usize::MAX), pages);
        assert_eq!((indexes.count(), indexes.shrink(usize::MAX)), (0, 0));
        assert!(before - alloc::in_use() >= 300 * 40, "the memory is free");
        // It is read once, and places are those of the same chunks.
        for (place, chunk) in places.iter().zip(&sound) {
            assert_eq!(packs.get(*place).unwrap().0.digest, digest(chunk));
        }
        assert_eq!((layout.counts().0, indexes.count()), (reads + 1, pages));
    }
    assert_eq!(lines.take(), Vec::<String>::new());
    drop(packs);
    assert_eq!(indexes.count(), 0, "it went with its last user");
}

#[test]
fn an_index_that_is_another_one_when_it_is_read_again_is_none() {
    let sound = some_chunks(1, 3);
    let listed = [pack(&sound)];
    let layout = layout(&listed);
    let lines = Lines::new(10);
    let indexes = Indexes::new().unwrap();
    let packs = packs(&layout, &indexes, &listed);
    let faults = faults(&lines);
    let wanted = digest(&sound[0]);
    let place = packs.find(&wanted, &faults).unwrap().unwrap();
    // As sound, but the chunks have other digests, so that places are those of others.
    let other = pack(&some_chunks(7, 3));
    layout.overwrite(&name(&listed[0]), other);
    assert_eq!(packs.get(place).unwrap().0.digest, wanted);
    indexes.shrink(usize::MAX);
    assert_eq!(packs.get(place).err(), Some(EIO));
    assert!(packs.find(&wanted, &faults).unwrap().is_none());
    assert!(lines.take()[0].contains("cannot be read"));
    // The one that it was is taken again.
    layout.overwrite(&name(&listed[0]), listed[0].clone());
    assert_eq!(packs.get(place).unwrap().0.digest, wanted);
}

#[test]
fn numbers_of_chunks_do_not_overlap() {
    let sets = [some_chunks(1, 5), some_chunks(4, 7), some_chunks(20, 1)];
    let listed: Vec<Vec<u8>> = sets.iter().map(|set| pack(set)).collect();
    let layout = layout(&listed);
    let lines = Lines::new(10);
    let chunks = chunks(&layout, &listed, &lines);
    let mut numbers = BTreeSet::new();
    let all: BTreeSet<Vec<u8>> = sets.into_iter().flatten().collect();
    for chunk in &all {
        let source = chunks.acquire(&digest(chunk), Purpose::Metadata).unwrap();
        assert!(matches!(source, Source::Packed(_)));
        assert!(numbers.insert(chunks.number(&source).unwrap()));
    }
    assert_eq!(numbers.len(), all.len());
    // As many as there are in all indexes, so that no pack's begin in another's.
    assert!(numbers.iter().all(|number| *number < 13), "{numbers:?}");
}

/// A pack whose index lists `count` chunks, all at the same place.
fn many(count: u32, first: u32) -> Vec<u8> {
    let entries: Vec<PackEntry> = (first..first + count)
        .map(|number| {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_be_bytes());
            PackEntry {
                digest: Digest::from_bytes(digest),
                offset: 0,
                size: 1,
            }
        })
        .collect();
    pack_with(&[vec![0; 8]], &entries)
}

#[test]
fn an_image_has_no_more_chunks_in_packs_than_it_may() {
    let full = limits::MAX_PACKED_CHUNKS / limits::MAX_PACK_CHUNKS;
    // The same file many times: its index is loaded once, and counted each time.
    let big = many(limits::MAX_PACK_CHUNKS, 0);
    let sound = some_chunks(1, 2);
    let mut listed = vec![big; full as usize];
    listed.push(pack(&sound));
    let layout = layout(&listed);
    let lines = Lines::new(10);
    let packs = packs(&layout, &Indexes::new().unwrap(), &listed);
    let faults = faults(&lines);
    assert!(packs.find(&digest(&sound[0]), &faults).unwrap().is_none());
    let lines = lines.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("too many chunks"), "{lines:?}");
    // What came before is there.
    let mut first = [0; 32];
    first[3] = 9;
    let place = packs.find(&Digest::from_bytes(first), &faults).unwrap();
    assert!(packs.number(place.unwrap()).unwrap() < limits::MAX_PACKED_CHUNKS);
}

#[test]
fn a_chunk_that_is_damaged_in_one_pack_is_taken_from_another() {
    let whole = content(30_000, 5);
    let mut damaged = whole.clone();
    damaged[20_000] ^= 1;
    let lying = {
        let mut entries = entries(&[damaged.clone()]);
        entries[0].digest = digest(&whole);
        pack_with(&[damaged], &entries)
    };
    let rootfs = files(6, vec![vec![extent(&whole, false, 0, 30_000)]]).write(1 << 12);
    let machine = Machine::new().unwrap();
    let sound = pack(std::slice::from_ref(&whole));
    for listed in [
        [lying.clone(), sound.clone()],
        [sound.clone(), lying.clone()],
    ] {
        let image = image(&machine, &rootfs, &listed, &[]);
        let inode = image.inode(2).unwrap();
        let file = inode.open().unwrap();
        let (bytes, result) = file.read(&mut PageCache::default(), 0, u64::MAX, WAY);
        assert_eq!(result, Ok(()));
        assert!(bytes == whole);
    }
    let image = image(&machine, &rootfs, &[lying], &[]);
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    let (bytes, result) = file.read(&mut PageCache::default(), 0, u64::MAX, WAY);
    assert_eq!((bytes.len(), result), (0, Err(EIO)));
    let lines = image.lines();
    assert_eq!(lines.len(), 1, "it is said once: {lines:?}");
}

#[test]
fn a_chunk_that_one_pack_says_is_too_large_is_taken_from_another() {
    let whole = content(30_000, 5);
    let large = vec![0; limits::MAX_CHUNK_BYTES as usize + 1];
    let mut lying = entries(std::slice::from_ref(&large));
    lying[0].digest = digest(&whole);
    let listed = [
        pack_with(&[large], &lying),
        pack(std::slice::from_ref(&whole)),
    ];
    let rootfs = files(6, vec![vec![extent(&whole, false, 0, 30_000)]]).write(1 << 12);
    let image = image(&Machine::new().unwrap(), &rootfs, &listed, &[]);
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    let (bytes, result) = file.read(&mut PageCache::default(), 0, u64::MAX, WAY);
    assert_eq!(result, Ok(()));
    assert!(bytes == whole);
    let lines = image.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("has no place for chunk"), "{lines:?}");
}

#[test]
fn what_helpers_find_damaged_is_taken_from_another_pack() {
    let chunks: Vec<_> = (0..12).map(|seed| content(7000, 30 + seed)).collect();
    let extents = chunks.iter().map(|chunk| extent(chunk, false, 0, 7000));
    let rootfs = files(6, vec![extents.collect()]).write(1 << 12);
    // The first pack has all of them, and one is not what its index says.
    let mut damaged = chunks.clone();
    damaged[5][6000] ^= 1;
    let mut lying = entries(&damaged);
    for entry in &mut lying {
        if entry.digest == digest(&damaged[5]) {
            entry.digest = digest(&chunks[5]);
        }
    }
    lying.sort_by_key(|entry| *entry.digest.as_bytes());
    let listed = [pack_with(&damaged, &lying), pack(&chunks)];
    let machine = Machine::new().unwrap();
    Tasks::Alone(4).set();
    // With folios of any size, several chunks in one among them.
    for seed in 0..20 {
        let image = image(&machine, &rootfs, &listed, &[]);
        let inode = image.inode(2).unwrap();
        let file = inode.open().unwrap();
        let way = How { seed, ..WAY };
        let (bytes, result) = file.read(&mut PageCache::default(), 0, u64::MAX, way);
        assert_eq!(result, Ok(()), "seed {seed}");
        assert!(bytes == chunks.concat(), "seed {seed}");
    }
    Tasks::Alone(1).set();
}

#[test]
fn what_a_task_that_was_killed_has_not_read_is_read_later() {
    let sound = some_chunks(1, 3);
    let listed = [pack(&sound)];
    let layout = layout(&listed);
    let lines = Lines::new(10);
    let packs = packs(&layout, &Indexes::new().unwrap(), &listed);
    let faults = faults(&lines);
    for after in 0..4 {
        kernel::alloc::fail_in(Some(after));
        let found = packs.find(&digest(&sound[0]), &faults);
        assert_eq!(found.err(), Some(ENOMEM), "{after}");
    }
    kernel::alloc::fail_in(None);
    assert!(packs.find(&digest(&sound[0]), &faults).unwrap().is_some());
    assert_eq!(lines.take(), [""; 0], "that is no fault of the pack");
}

/// The pack of [`segments`], whose type has no name outside its room.
macro_rules! opened {
    ($packs:ident) => {{
        let (digest, lines) = (digest(&content(70_001, 0)), Lines::new(10));
        let place = $packs.find(&digest, &faults(&lines)).unwrap();
        $packs.get(place.unwrap()).unwrap().1
    }};
}

/// A pack of 12 segments of a MiB, as a mount has it in use, in chunks of 15 to a segment or so.
fn segments() -> (crate::chunks::Packs, Vec<(u64, u64)>) {
    let chunks: Vec<_> = (0..180).map(|seed| content(70_001, seed)).collect();
    let listed = [pack(&chunks)];
    let packs = packs(&layout(&listed), &Indexes::new().unwrap(), &listed);
    opened!(packs).file().forget(0, u64::MAX >> 1);
    let size = listed[0].len() as u64;
    let starts = (0..size - 70_001).step_by(70_001);
    (packs, starts.map(|start| (start, 70_001)).collect())
}

const SEGMENT: u64 = 1 << 20;

#[test]
fn what_was_read_does_not_stay_in_the_page_cache_below() {
    let (packs, chunks) = segments();
    let pack = opened!(packs);
    for times in 0..3 {
        for (start, len) in &chunks {
            pack.read_exact(&mut vec![0; *len as usize], *start)
                .unwrap();
        }
        let left = pack.file().cache().count(0, 11 * SEGMENT);
        assert_eq!(left, 0, "pages are left of whole segments, time {times}");
    }
}

#[test]
fn what_others_have_cached_below_stays() {
    for order in 0..4u64 {
        let (packs, mut chunks) = segments();
        let pack = opened!(packs);
        let cache = pack.file().cache();
        cache.fill(3 * SEGMENT, 4096);
        cache.fill(6 * SEGMENT, 2 * SEGMENT);
        match order {
            0 => (),
            1 => chunks.reverse(),
            more => {
                chunks.sort_by_key(|(start, _)| start.wrapping_mul(more * 0x9e37_79b9) % 10_007)
            }
        }
        for times in 0..3 {
            for (start, len) in &chunks {
                pack.read_exact(&mut vec![0; *len as usize], *start)
                    .unwrap();
            }
            let what = format!("order {order}, time {times}");
            assert_eq!(cache.count(3 * SEGMENT, 4096), 1, "{what}");
            assert_eq!(cache.count(6 * SEGMENT, 2 * SEGMENT), 512, "{what}");
            if order == 0 {
                assert_eq!(cache.count(8 * SEGMENT, 3 * SEGMENT), 0, "{what}");
                assert_eq!(cache.count(4 * SEGMENT, 2 * SEGMENT), 0, "{what}");
            }
        }
    }
}

#[test]
fn what_others_drop_below_does_not_stay() {
    let (packs, chunks) = segments();
    let pack = opened!(packs);
    let cache = pack.file().cache();
    cache.fill(0, 12 * SEGMENT);
    let read = || {
        for (start, len) in &chunks {
            pack.read_exact(&mut vec![0; *len as usize], *start)
                .unwrap();
        }
    };
    read();
    assert_eq!(cache.count(0, 11 * SEGMENT), 11 * 256);
    cache.drop(0, 12 * SEGMENT);
    read();
    assert_eq!(cache.count(0, 11 * SEGMENT), 0);
}

#[test]
fn what_others_cache_below_after_it_was_read_stays() {
    let (packs, chunks) = segments();
    let pack = opened!(packs);
    let cache = pack.file().cache();
    for others in [0, 10 * SEGMENT] {
        cache.fill(0, others);
        for (start, len) in &chunks {
            pack.read_exact(&mut vec![0; *len as usize], *start)
                .unwrap();
        }
        assert_eq!(cache.count(0, 11 * SEGMENT) as u64, others / 4096);
    }
}
