// SPDX-License-Identifier: Apache-2.0

//! What reading a message borrows of its [`Source`] at a time: some parts, whatever the message
//! says. The kernel pins what is borrowed, and has no memory left if that is much.

use std::cell::Cell;

use format_tests::model::{Chunk, Inode, Mode, Rootfs};
use puzzlefs_format as format;
use puzzlefs_format::{limits, Error, Kind, Part, Source};

/// Bytes of a part: little of what belongs together is in one.
const PART: usize = 8;
/// Parts that are borrowed when a source is full.
const FULL: usize = 4;
/// Parts that one step borrows at most: the header, and both ends of what five pointers lead
/// to, some of it by far pointers.
const STEP: usize = 40;

/// A source that counts what is borrowed, in all its scopes together.
struct Counted<'a> {
    bytes: &'a [u8],
    now: &'a Cell<usize>,
    most: &'a Cell<usize>,
    own: Cell<usize>,
}

impl<'a> Counted<'a> {
    fn new(bytes: &'a [u8], now: &'a Cell<usize>, most: &'a Cell<usize>) -> Self {
        let own = Cell::new(0);
        Self {
            bytes,
            now,
            most,
            own,
        }
    }

    fn count(&self) {
        self.own.set(self.own.get() + 1);
        self.now.set(self.now.get() + 1);
        self.most.set(self.most.get().max(self.now.get()));
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.now.set(self.now.get() - self.own.get());
    }
}

impl Source for Counted<'_> {
    fn size(&self) -> usize {
        self.bytes.len()
    }

    fn part(&self, at: usize) -> Result<Part<'_>, Error> {
        self.count();
        let start = at - at % PART;
        let end = self.bytes.len().min(start + PART);
        let bytes = &self.bytes[start..end];
        Ok(Part { start, bytes })
    }

    fn join(&self, at: usize, len: usize) -> Result<&[u8], Error> {
        self.count();
        Ok(&self.bytes[at..at + len])
    }

    fn is_full(&self) -> bool {
        self.own.get() >= FULL
    }

    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn Source) -> Result<(), Error>,
    ) -> Result<(), Error> {
        function(&Counted::new(self.bytes, self.now, self.most))
    }
}

/// The most that `read` borrows at a time of the message of `vectors`.
fn most(
    version: u64,
    vectors: Vec<Vec<Inode>>,
    read: impl FnOnce(&format::Rootfs<'_>) -> Result<(), Error>,
) -> usize {
    let rootfs = Rootfs {
        version,
        vectors,
        verity: Vec::new(),
        inode_count: 0,
        data_size: 0,
    };
    // In several segments, so that pointers are far.
    let message = rootfs.write(1024);
    let (now, most) = (Cell::new(0), Cell::new(0));
    let source = Counted::new(&message, &now, &most);
    read(&format::Rootfs::parse_source(&source, version).unwrap()).unwrap();
    most.get()
}

fn inode(ino: u64, mode: Mode) -> Inode {
    Inode {
        ino,
        mode,
        uid: 0,
        gid: 0,
        permissions: 0o644,
        xattrs: Vec::new(),
        mtime: (0, 0),
        nlink: 0,
        parent: 0,
    }
}

fn check(most: usize) {
    assert!(most <= FULL + 2 * STEP, "{most} parts");
}

#[test]
fn layers() {
    // The inode is in none of the layers, or in the oldest.
    let mut vectors =
        vec![vec![inode(2, Mode::Fifo), inode(9, Mode::Fifo)]; limits::MAX_LAYERS as usize];
    vectors.last_mut().unwrap().push(inode(1_000, Mode::Sock));
    check(most(3, vectors, |rootfs| {
        assert!(rootfs.inode(500)?.is_none());
        assert!(rootfs.inode(1_000)?.is_some());
        assert_eq!(rootfs.inode_count()?, 2 * u64::from(limits::MAX_LAYERS) + 1);
        Ok(())
    }));
}

#[test]
fn numbers_with_gaps() {
    let vector = (1..3_000)
        .map(|ino| inode(ino * 1_000, Mode::Fifo))
        .collect();
    check(most(3, vec![vector], |rootfs| {
        assert!(rootfs.inode(1_777_000)?.is_some());
        assert!(rootfs.inode(1_777_001)?.is_none());
        Ok(())
    }));
}

#[test]
fn directories() {
    let name = |index: u64| format!("{index:0>30}").into_bytes();
    let sorted: Vec<_> = (0..2_000).map(|index| (2, name(index), None)).collect();
    let unsorted = sorted.iter().rev().cloned().collect();
    let vector = vec![
        inode(1, Mode::Dir(sorted)),
        inode(2, Mode::Fifo),
        inode(3, Mode::Dir(unsorted)),
    ];
    check(most(3, vec![vector], |rootfs| {
        for (ino, sorted) in [(1, true), (3, false)] {
            let Kind::Dir(dir) = rootfs.inode(ino)?.unwrap().kind()? else {
                panic!("a directory")
            };
            assert_eq!(dir.is_sorted()?, sorted);
            assert!(dir.find(&name(1_234), sorted)?.is_some());
            assert!(dir.find(b"1", sorted)?.is_none());
        }
        Ok(())
    }));
}

#[test]
fn attributes_and_extents() {
    let mut file = inode(
        1,
        Mode::File(
            (0..3_000)
                .map(|index: u64| Chunk {
                    blob: (index % 3 > 0).then_some(([index as u8; 32], index, false)),
                    len: 10,
                })
                .collect(),
            false,
        ),
    );
    file.xattrs = (0..2_000)
        .map(|index| (format!("user.{index}").into_bytes(), vec![7; 100]))
        .collect();
    check(most(4, vec![vec![file]], |rootfs| {
        let inode = rootfs.inode(1)?.unwrap();
        assert!(inode.xattrs()?.find(b"user.1999")?.is_some());
        assert!(inode.xattrs()?.find(b"user.2000")?.is_none());
        let Kind::File(extents) = inode.kind()? else {
            panic!("a file")
        };
        assert_eq!(extents.total()?, 30_000);
        assert_eq!(extents.holes()?, 10_000);
        Ok(())
    }));
}
