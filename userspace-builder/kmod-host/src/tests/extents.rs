// SPDX-License-Identifier: GPL-2.0

//! The room `metadata`: extents of files, few and many.

use super::image;
use crate::chunk::{content, pack};
use crate::message::{blob, extent, files, hole, in_blocks};
use crate::metadata::ExtentMap;
use crate::{How, Image, Machine};
use format_tests::model::Chunk;
use kernel::{alloc, prelude::*};
use puzzlefs_format::limits;
use vfs::{task, PageCache, SeekTo};

const HOW: How = How {
    window: 128 << 10,
    seed: 5,
};

/// Files of up to so many extents have them in memory.
const MAX_RUN_EXTENTS: usize = 4096;

/// A file of `count` extents of 100 bytes, of one chunk, every fifth of which is a hole.
fn pattern(count: usize) -> (Vec<u8>, Vec<u8>, Vec<Chunk>) {
    let stored = content(10_000, 1);
    let (mut data, mut extents) = (Vec::new(), Vec::new());
    for index in 0..count {
        if index % 5 == 4 {
            data.resize(data.len() + 100, 0);
            extents.push(hole(100));
        } else {
            let start = index % 97 * 100;
            data.extend(&stored[start..start + 100]);
            extents.push(extent(&stored, false, start as u64, 100));
        }
    }
    (data, stored, extents)
}

fn check(image: &Image, data: &[u8], is_long: bool) {
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    assert_eq!(
        matches!(file.opened().extents(), ExtentMap::Long(_)),
        is_long
    );
    assert_eq!(file.extents().is_none(), is_long);
    let mut pages = PageCache::default();
    for position in [0, 1, 99_999, data.len() as u64 / 2, data.len() as u64 - 1] {
        let (bytes, result) = file.read(&mut pages, position, 20_000, HOW);
        assert_eq!(result, Ok(()));
        let end = data.len().min(position as usize + 20_000);
        assert!(bytes == data[position as usize..end], "at {position}");
    }
    for position in [
        0,
        399,
        400,
        450,
        499,
        500,
        123_400,
        123_450,
        data.len() as u64 - 1,
    ] {
        let is_hole = |at: u64| at / 100 % 5 == 4;
        let next = |wanted: bool| (position..).find(|at| is_hole(*at) == wanted).unwrap();
        let hole = next(true).min(data.len() as u64);
        assert_eq!(
            file.seek(position, SeekTo::Hole),
            Ok(hole),
            "from {position}"
        );
        let data_at = Some(next(false))
            .filter(|at| *at < data.len() as u64)
            .ok_or(ENXIO);
        assert_eq!(
            file.seek(position, SeekTo::Data),
            data_at,
            "from {position}"
        );
    }
}

#[test]
fn few_extents_are_kept_and_of_many_it_is_known_where_they_are() {
    let machine = Machine::new().unwrap();
    for count in [MAX_RUN_EXTENTS, MAX_RUN_EXTENTS + 1, 10_001] {
        let (data, stored, extents) = pattern(count);
        let message = files(6, vec![extents]).write(1 << 20);
        let whole = image(
            &machine,
            &message,
            &[pack(std::slice::from_ref(&stored))],
            &[],
        );
        check(&whole, &data, count > MAX_RUN_EXTENTS);
        // The same of loose chunks, and with the metadata in blocks.
        let loose = image(&machine, &message, &[], std::slice::from_ref(&stored));
        check(&loose, &data, count > MAX_RUN_EXTENTS);
        let (rootfs, mut chunks) = in_blocks(&message, 6);
        chunks.push(stored);
        let blocks = image(&machine, &rootfs, &[pack(&chunks)], &[]);
        check(&blocks, &data, count > MAX_RUN_EXTENTS);
        let loose = image(&machine, &rootfs, &[], &chunks);
        check(&loose, &data, false);
    }
}

/// An image in blocks with a file of `count` holes of 4 KiB: one block of them, repeated.
fn heavy(count: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
    const FEW: u64 = 37;
    let message = files(6, vec![(0..FEW).map(|_| hole(4096)).collect()]).write(1 << 12);
    let mut words: Vec<u64> = message
        .chunks(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect();
    // The list's pointer says how many words there are, its tag how many elements.
    let pointer = |words: u64| 1 | ((7 | (words << 3)) << 32);
    let tag = |elements: u64| 0x0001_0001_0000_0000 | (elements << 2);
    let at = words.iter().position(|word| *word == tag(FEW)).unwrap();
    let is_pointer = |word: &u64| word & !0xffff_fffc == pointer(2 * FEW);
    let to = words.iter().position(is_pointer).unwrap();
    words[at] = tag(count.into());
    words[to] = words[to] & 0xffff_fffc | pointer(2 * u64::from(count));
    // An empty list follows, which nobody needs.
    let is_empty_list = |word: &u64| *word >> 32 == 7 && *word & 3 == 1;
    let empty = words.iter().position(is_empty_list).unwrap();
    words[empty] = 0;
    words.pop();
    // The file's size, and that of the segment.
    let size = words.iter().position(|word| *word == FEW * 4096).unwrap();
    words[size] = u64::from(count) * 4096;
    assert_eq!(
        at + 1 + 2 * FEW as usize,
        words.len(),
        "nothing follows the list"
    );
    let total = at + 1 + 2 * count as usize;
    words[0] = (total as u64 - 1) << 32;
    let block = limits::BLOCK_BYTES as usize / 8;
    let word = |index: usize| match words.get(index) {
        Some(word) => *word,
        None if (index - at) % 2 == 1 => 4096,
        None => 0,
    };
    let bytes = |range: std::ops::Range<usize>| range.flat_map(|index| word(index).to_le_bytes());
    let first: Vec<u8> = bytes(0..block).collect();
    let repeated: Vec<u8> = bytes(block..2 * block).collect();
    let last = total / block * block;
    let rest: Vec<u8> = bytes(last..total).collect();
    let listed = |chunk: &[u8]| extent(chunk, false, 0, chunk.len() as u64);
    let mut blocks = vec![listed(&first)];
    blocks.extend((1..total / block).map(|_| listed(&repeated)));
    if !rest.is_empty() {
        blocks.push(listed(&rest));
    }
    let chunks = [first, repeated, rest]
        .into_iter()
        .filter(|chunk| !chunk.is_empty());
    (blob(&blocks, 6), chunks.collect())
}

#[test]
fn as_many_extents_as_there_may_be_take_little_memory() {
    const COUNT: u32 = limits::MAX_EXTENTS;
    let (rootfs, chunks) = heavy(COUNT);
    let image = image(&Machine::new().unwrap(), &rootfs, &[pack(&chunks)], &[]);
    let inode = image.inode(2).unwrap();
    let before = alloc::in_use();
    alloc::restart();
    let looks = task::looks();
    let file = inode.open().unwrap();
    assert_eq!(file.size(), u64::from(COUNT) * 4096);
    // A word for every 128 extents; and slots for the chunks of metadata.
    let most = (COUNT as isize / 128 * 8) * 3 + (1 << 20);
    assert!(
        alloc::peak() - before <= most,
        "{} bytes",
        alloc::peak() - before
    );
    assert!(
        task::looks() - looks >= u64::from(COUNT / 1024),
        "it looks for a signal"
    );
    // A read in the middle looks at some of them.
    let looks = task::looks();
    let middle = file.size() / 2 + 5;
    let (bytes, result) = file.read(&mut PageCache::default(), middle, 10_000, HOW);
    assert!(result == Ok(()) && bytes == [0; 10_000]);
    assert!(
        task::looks() - looks < 200,
        "{} looks",
        task::looks() - looks
    );
    // Whoever looks for data there can be killed.
    task::dies_in(Some(50));
    assert_eq!(file.seek(0, SeekTo::Data), Err(EINTR));
    assert_eq!(inode_killed(&image), Err(EINTR));
    task::dies_in(None);
}

fn inode_killed(image: &Image) -> Result {
    image.inode(2)?.open().map(|_| ())
}

#[test]
fn loose_blocks_may_not_have_as_many() {
    let (rootfs, chunks) = heavy((1 << 16) + 1);
    let image = image(&Machine::new().unwrap(), &rootfs, &[], &chunks);
    let inode = image.inode(2).unwrap();
    assert_eq!(inode.open().err(), Some(EFBIG));
}

#[test]
fn extents_must_add_up_to_the_size() {
    let (_, stored, extents) = pattern(5000);
    let mut rootfs = files(6, vec![extents]);
    rootfs.vectors[0][1].nlink = 77;
    let mut message = rootfs.write(1 << 20);
    let at = |message: &[u8]| {
        message
            .chunks(8)
            .position(|word| word == 500_000_u64.to_le_bytes())
    };
    let size = 8 * at(&message).unwrap();
    message[size..size + 8].copy_from_slice(&500_001_u64.to_le_bytes());
    let image = image(&Machine::new().unwrap(), &message, &[pack(&[stored])], &[]);
    let inode = image.inode(2).unwrap();
    assert_eq!(inode.open().err(), Some(EUCLEAN));
    let lines = image.lines();
    assert!(
        lines.len() == 1 && lines[0].starts_with("inode 2: "),
        "{lines:?}"
    );
}
