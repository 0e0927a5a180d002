// SPDX-License-Identifier: GPL-2.0

//! The room `filling`: the bytes of files, however they are asked for.

use super::image;
use crate::chunk::{content, lz4, pack, Zstd};
use crate::message::{extent, files, hole};
use crate::{File, How, Image, Machine};
use format_tests::model::Chunk;
use kernel::prelude::*;
use vfs::{folio::Pressure, parallel::Tasks, PageCache};

const PAGE: u64 = 4096;

/// A file of chunks of all kinds, whole and in parts, and holes; and what is in it.
struct Sample {
    data: Vec<u8>,
    extents: Vec<Chunk>,
    stored: Vec<Vec<u8>>,
}

impl Sample {
    fn new() -> Self {
        let mut this = Self {
            data: Vec::new(),
            extents: Vec::new(),
            stored: Vec::new(),
        };
        let streamed = Zstd {
            has_size: false,
            window_log: 12,
            ..Zstd::PLAIN
        };
        let small = Zstd {
            frame: 4096,
            ..Zstd::PLAIN
        };
        let whole = [
            (9000, Zstd::PLAIN),
            (70_001, streamed),
            (65_536, small),
            (1, Zstd::PLAIN),
            (4096, Zstd::PLAIN),
        ];
        for (seed, (size, form)) in (1..).zip(whole) {
            let bytes = content(size, seed);
            this.add(&bytes, form.chunk(&bytes), true, 0, size);
        }
        this.hole(10_000);
        let raw = content(20_000, 20);
        this.add(&raw, raw.clone(), false, 0, 20_000);
        let lz4_data = content(50_000, 21);
        this.add(&lz4_data, lz4(&lz4_data), true, 0, 50_000);
        // Parts, one of which begins with the chunk.
        for (start, len) in [(30_000, 5000), (0, 100), (49_999, 1), (12_288, 8192)] {
            this.add(&lz4_data, lz4(&lz4_data), true, start, len);
        }
        this.hole(1);
        let last = content(33_333, 22);
        this.add(&last, Zstd::PLAIN.chunk(&last), true, 333, 33_000);
        this
    }

    fn add(&mut self, data: &[u8], stored: Vec<u8>, compressed: bool, start: usize, len: usize) {
        self.data.extend(&data[start..start + len]);
        let part = extent(&stored, compressed, start as u64, len as u64);
        self.extents.push(part);
        self.stored.push(stored);
    }

    fn hole(&mut self, len: usize) {
        self.data.resize(self.data.len() + len, 0);
        self.extents.push(hole(len as u64));
    }

    fn image(&self, machine: &Machine, packed: bool) -> Image {
        let rootfs = files(6, vec![self.extents.clone()]).write(1 << 12);
        let mut stored = self.stored.clone();
        stored.sort();
        stored.dedup();
        match packed {
            true => image(machine, &rootfs, &[pack(&stored)], &[]),
            false => image(machine, &rootfs, &[], &stored),
        }
    }
}

fn whole(file: &File<'_>, pages: &mut PageCache, position: u64, len: u64, how: How) -> Vec<u8> {
    let (bytes, result) = file.read(pages, position, len, how);
    assert_eq!(result, Ok(()), "at {position} by {how:?}");
    bytes
}

#[test]
fn windows_at_all_alignments_give_the_source() {
    let sample = Sample::new();
    let machine = Machine::new().unwrap();
    for packed in [true, false] {
        let image = sample.image(&machine, packed);
        let inode = image.inode(2).unwrap();
        let file = inode.open().unwrap();
        assert_eq!(file.size(), sample.data.len() as u64);
        for (window, max_order, tasks) in [
            (0, 9, 1),
            (PAGE, 0, 4),
            (3 * PAGE, 9, 1),
            (128 << 10, 5, 4),
            (1 << 20, 9, 2),
        ] {
            Tasks::Alone(tasks).set();
            Pressure {
                max_order,
                ..Pressure::NONE
            }
            .set();
            for first in (0..file.size().div_ceil(PAGE)).step_by(3) {
                let how = How {
                    window,
                    seed: first,
                };
                let mut pages = PageCache::default();
                let at = first * PAGE;
                let bytes = whole(&file, &mut pages, at, 60_000, how);
                let end = sample.data.len().min(at as usize + 60_000);
                assert!(bytes == sample.data[at as usize..end], "at {at} by {how:?}");
            }
        }
    }
    Tasks::Alone(1).set();
    Pressure::NONE.set();
}

#[test]
fn threads_that_help_give_the_source() {
    let sample = Sample::new();
    let image = sample.image(&Machine::new().unwrap(), true);
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    Tasks::Threads(4).set();
    for seed in 0..10 {
        let how = How {
            window: 1 << 20,
            seed,
        };
        assert!(whole(&file, &mut PageCache::default(), 0, u64::MAX, how) == sample.data);
    }
    Tasks::Alone(1).set();
}

#[test]
fn a_window_grows_to_what_is_decompressed_anyway() {
    let data = content(200_000, 1);
    let stored = Zstd::PLAIN.chunk(&data);
    let rootfs = files(6, vec![vec![extent(&stored, true, 0, 200_000)]]).write(1 << 12);
    let image = image(&Machine::new().unwrap(), &rootfs, &[pack(&[stored])], &[]);
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    let mut pages = PageCache::default();
    let how = How {
        window: PAGE,
        seed: 1,
    };
    assert!(whole(&file, &mut pages, 0, 10, how) == data[..10]);
    // All of the chunk came with its begin, and was verified once.
    assert!(pages.get(199_999).is_some());
    assert_eq!(image.chunks_verified(), 1);
}

#[test]
fn many_readers_of_one_chunk_verify_it_once() {
    let data = content(60_000, 1);
    let stored = Zstd::PLAIN.chunk(&data);
    let rootfs = files(6, vec![vec![extent(&stored, true, 0, 60_000)]]).write(1 << 12);
    let image = image(&Machine::new().unwrap(), &rootfs, &[pack(&[stored])], &[]);
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (file, data) = (&file, &data);
            scope.spawn(move || {
                let how = How { window: 0, seed };
                let mut pages = PageCache::default();
                assert!(
                    whole(file, &mut pages, seed * PAGE, 9000, how)
                        == data[(seed * PAGE) as usize..][..9000]
                );
            });
        }
    });
    assert_eq!(image.chunks_verified(), 1);
}

/// Small files, all in one chunk.
fn small(count: usize, len: usize) -> (Vec<u8>, Vec<Vec<Chunk>>, Vec<u8>) {
    let data = content(count * len, 3);
    let stored = Zstd::PLAIN.chunk(&data);
    let part = |index| extent(&stored, true, (index * len) as u64, len as u64);
    let files = (0..count).map(|index| vec![part(index)]).collect();
    (data, files, stored)
}

#[test]
fn small_files_are_read_from_the_page_cache_of_their_chunk() {
    let (data, extents, stored) = small(40, 1500);
    let rootfs = files(6, extents).write(1 << 12);
    let machine = Machine::new().unwrap();
    let image = image(&machine, &rootfs, &[pack(&[stored])], &[]);
    for round in 0..2 {
        for (index, expected) in data.chunks(1500).enumerate() {
            let inode = image.inode(2 + index as u64).unwrap();
            let file = inode.open().unwrap();
            assert!(file.is_small() && file.content().is_none());
            for (position, len) in [(0, 1500), (0, 1), (700, 5000), (1499, 1)] {
                let (bytes, all) = file.copy_shared(position, len);
                assert_eq!(all, Ok(true), "file {index} in round {round}");
                let end = (position + len).min(1500) as usize;
                assert!(bytes == expected[position as usize..end]);
            }
            // Mapped, it has pages of its own, with zeroes behind the end.
            let mut pages = PageCache::default();
            let how = How {
                window: PAGE,
                seed: 0,
            };
            assert!(whole(&file, &mut pages, 0, 1500, how) == expected);
            assert!(pages.get(1500).unwrap().iter().all(|byte| *byte == 0));
        }
    }
    assert_eq!((image.chunks_verified(), machine.shared_caches()), (1, 1));
}

#[test]
fn small_files_are_read_though_their_pages_are_reclaimed() {
    let (data, extents, stored) = small(40, 1500);
    let rootfs = files(6, extents).write(1 << 12);
    let image = image(&Machine::new().unwrap(), &rootfs, &[pack(&[stored])], &[]);
    for seed in 0..20 {
        for max_order in [0, 2, 9] {
            Pressure {
                max_order,
                one_in: 3,
                seed,
            }
            .set();
            for (index, expected) in data.chunks(1500).enumerate() {
                let inode = image.inode(2 + index as u64).unwrap();
                let file = inode.open().unwrap();
                let (bytes, all) = file.copy_shared(0, 1500);
                assert_eq!(all, Ok(true));
                assert!(bytes == expected);
            }
        }
    }
    Pressure::NONE.set();
}

#[test]
fn a_small_file_of_a_damaged_chunk_fails_alike() {
    let (_, extents, mut stored) = small(4, 1500);
    let rootfs = files(6, extents).write(1 << 12);
    // Where it is read from its bytes are other ones.
    let sound = stored.clone();
    stored[100] ^= 1;
    let mut entries = crate::chunk::entries(&[stored.clone()]);
    entries[0].digest = super::digest(&sound);
    let lying = crate::chunk::pack_with(&[stored], &entries);
    let image = image(&Machine::new().unwrap(), &rootfs, &[lying], &[]);
    let inode = image.inode(3).unwrap();
    let file = inode.open().unwrap();
    assert_eq!(file.copy_shared(0, 1500), (Vec::new(), Err(EIO)));
    let how = How {
        window: PAGE,
        seed: 0,
    };
    let read = file.read(&mut PageCache::default(), 0, 1500, how);
    assert_eq!(read, (Vec::new(), Err(EIO)));
}
