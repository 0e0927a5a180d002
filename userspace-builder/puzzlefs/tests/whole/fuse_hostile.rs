// SPDX-License-Identifier: Apache-2.0
//! Images that ask for much, as a filesystem that FUSE serves: each answer comes soon, as an error if need be. A
//! reader who was killed waits for it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::layout::store;
use crate::common::message::{tag_rootfs, tree, Message, DIR, FILE};
use crate::common::{open, scratch};
use puzzlefs::fuse::filesystem::{Filesystem, SeekTo};
use puzzlefs::fuse::tree::ImageTree;
use puzzlefs::layout::manifest::Descriptor;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::Patience;
use puzzlefs_format::{limits, MEDIA_TYPE_CHUNK_ZSTD};
use rustix::io::Errno;

/// For an answer, on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(20);

/// Asks, and says how long that may take.
fn soon<T>(what: &str, ask: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let answer = ask();
    assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
    answer
}

/// Makes an image of a Rootfs, asks, and gives the lines of the log.
fn ask(fill: impl Fn(&Path) -> (Vec<u8>, Vec<Descriptor>), ask: impl Fn(&ImageTree<'_>)) -> String {
    let dir = scratch();
    let layout = dir.path().join("layout");
    Layout::open_or_create(&layout).unwrap();
    let (rootfs, chunks) = fill(&layout);
    tag_rootfs(&layout, "heavy", &rootfs, &chunks);
    let image = open(&layout, "heavy");
    let lines = Arc::new(Mutex::new(String::new()));
    let into = lines.clone();
    let log = Box::new(move |line: &str| *into.lock().unwrap() += line);
    ask(&ImageTree::new(&image, "heavy", log).unwrap());
    let lines = lines.lock().unwrap().clone();
    lines
}

/// The largest chunk, of one byte, stored in a few bytes.
fn bomb(layout: &Path, byte: u8) -> Descriptor {
    let content = vec![byte; limits::MAX_CHUNK_BYTES as usize];
    let mut stored = zstd::bulk::compress(&content, 3).unwrap();
    let size = stored.len() as u32;
    for number in [0x184d_2a5e, 17, size, content.len() as u32, 1] {
        stored.extend(u32::to_le_bytes(number));
    }
    stored.push(0);
    stored.extend(0x8f92_eab1u32.to_le_bytes());
    let (digest, size) = store(layout, &stored);
    Descriptor::new(MEDIA_TYPE_CHUNK_ZSTD, digest, size)
}

/// Gives the inode at `at` a byte of each chunk, `times` times.
fn bytes_of(message: &mut Message, at: usize, chunks: &[Descriptor], times: usize) {
    let mut refs = Vec::new();
    for chunk in chunks {
        let at = message.at();
        message.0.extend([0, 1, 0]);
        let place = message.text(chunk.digest.as_bytes());
        message.bytes(at + 2, place, 32);
        refs.push(at);
    }
    let len = refs.len() * times;
    let list = message.list(at + 6, len as u64, 1, 1);
    for index in 0..len {
        message.0[list + 2 * index] = 1;
        message.structure(list + 2 * index + 1, refs[index % refs.len()], 2, 1);
    }
    message.0[at + 5] = len as u64;
}

/// A file that has a byte of each of many chunks is read as far as that makes sense.
#[test]
fn a_byte_of_each_chunk() {
    let fill = |layout: &Path| {
        let chunks: Vec<Descriptor> = (0..=255).map(|byte| bomb(layout, byte)).collect();
        let rootfs = tree(5, 1, 1, |message, at, _| {
            message.inode(at, 2, FILE, 0);
            bytes_of(message, at, &chunks, 1000);
        });
        (rootfs, chunks)
    };
    let said = ask(fill, |tree| {
        let found = tree.lookup(1, b"000000").unwrap().unwrap();
        assert_eq!(found.size, 256_000);
        let read = |len| soon("read", || tree.read(found.ino, 0, len, &Patience::None));
        assert_eq!(read(64_000).unwrap_err(), Errno::IO);
        assert_eq!(*read(3).unwrap(), [0, 1, 2]);
        assert_eq!(tree.seek(found.ino, 5, SeekTo::Hole), Ok(256_000));
    });
    assert!(said.contains("far larger chunks than files use"), "{said}");
}

/// Names of which none is there, in as many layers as there may be.
#[test]
fn names_that_layers_have_removed() {
    let fill = |_: &Path| {
        let rootfs = tree(5, 256, 60_000, |message, at, index| {
            message.0[at] = index + 1_000_000;
        });
        (rootfs, Vec::new())
    };
    ask(fill, |tree| {
        let none = soon("list", || {
            tree.list(1, 0, true, &mut |_| panic!("an entry"))
        });
        assert_eq!(none, Ok(()));
        assert_eq!(soon("lookup", || tree.lookup(1, b"000001")), Ok(None));
    });
}

/// A directory without an order, of one name, of which each is looked at: it has an end, and is
/// remembered not to be sorted.
#[test]
fn a_directory_without_order() {
    let fill = |_: &Path| {
        let mut message = Message(vec![0, 5, 0]);
        let vectors = message.list(2, 1, 0, 1);
        let inodes = message.list(vectors, 1, 6, 2);
        let count = 3 << 20;
        message.inode(inodes, 1, DIR, count);
        let entries = vec![(7u64, &b"same"[..]); count as usize];
        message.dir(inodes, &entries);
        (message.finish(), Vec::new())
    };
    ask(fill, |tree| {
        let found = soon("lookup", || tree.lookup(1, b"same"));
        assert_eq!(found, Err(Errno::FBIG));
        let listed = soon("list", || tree.list(1, 0, false, &mut |_| true));
        assert_eq!(listed, Err(Errno::FBIG));
    });
}

/// Long files that share one list of extents: each is proved once, and where its extents are takes a bounded
/// amount of memory.
#[test]
fn files_that_share_extents() {
    let shared = std::cell::Cell::new(0);
    let (files, len) = (50, 1 << 20);
    let fill = |_: &Path| {
        let rootfs = tree(5, 1, files, |message, at, index| {
            message.inode(at, index + 2, FILE, 0);
            if index == 0 {
                let list = message.list(at + 6, len, 1, 1);
                (0..len as usize).for_each(|extent| message.0[list + 2 * extent] = 4096);
                shared.set(list - 1);
            } else {
                message.point(at + 6, shared.get(), 2 * len);
            }
        });
        (rootfs, Vec::new())
    };
    ask(fill, |tree| {
        for file in 0..files {
            let name = format!("{file:06}");
            let found = soon("lookup", || tree.lookup(1, name.as_bytes()));
            let found = found.unwrap().unwrap();
            assert_eq!(found.size, 4096 * len);
            let read = soon("read", || {
                tree.read(found.ino, found.size - 100, 4096, &Patience::None)
            });
            assert_eq!(*read.unwrap(), [0; 100]);
            let data = soon("seek", || tree.seek(found.ino, 0, SeekTo::Data));
            assert_eq!(data, Err(Errno::NXIO));
        }
    });
}
