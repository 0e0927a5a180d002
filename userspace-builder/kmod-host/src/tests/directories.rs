// SPDX-License-Identifier: GPL-2.0

//! The room `inode`: directories whose entries say what their inodes are, or not.

use super::image;
use crate::message::inode;
use crate::Machine;
use format_tests::model::{Mode, Rootfs};
use kernel::prelude::*;
use puzzlefs_format::FileType;
use vfs::{DirEmitter, DirEntryType};

const FILE: Option<FileType> = Some(FileType::File);

/// An image of these entries and of inode 2, a fifo; and where a reader begins.
fn of(machine: &Machine, entries: &[(u64, &str, Option<FileType>)]) -> crate::Image {
    let entries = entries
        .iter()
        .map(|(ino, name, file_type)| (*ino, name.as_bytes().to_vec(), *file_type));
    let rootfs = Rootfs {
        version: 3,
        vectors: vec![vec![
            inode(1, Mode::Dir(entries.collect())),
            inode(2, Mode::Fifo),
        ]],
        verity: Vec::new(),
        inode_count: 2,
        data_size: 0,
    };
    image(machine, &rootfs.write(1 << 12), &[], &[])
}

#[test]
fn a_listing_takes_the_type_that_an_entry_has() {
    let machine = Machine::new().unwrap();
    // Of the last two no inode is there: the one with a type shows that nobody looks.
    let entries = [
        (2, "a", None),
        (2, "b", FILE),
        (9, "c", FILE),
        (9, "d", None),
    ];
    let image = of(&machine, &entries);
    let root = image.inode(1).unwrap();
    for room in [1, 2, 100] {
        let (mut found, mut position) = (Vec::new(), DirEmitter::FIRST);
        loop {
            let (entries, next) = root.entries(position, room).unwrap();
            if entries.is_empty() {
                assert_eq!(next, DirEmitter::FIRST + 4);
                break;
            }
            found.extend(entries);
            position = next;
        }
        let found: Vec<_> = found
            .iter()
            .map(|(name, ino, kind)| (&name[..], *ino, *kind))
            .collect();
        assert_eq!(
            found,
            [
                (&b"a"[..], 2, DirEntryType::Fifo),
                (b"b", 2, DirEntryType::Regular),
                (b"c", 9, DirEntryType::Regular)
            ]
        );
    }
}

#[test]
fn a_lookup_refuses_what_an_entry_says_wrongly() {
    let machine = Machine::new().unwrap();
    let entries = [
        (2, "a", Some(FileType::Fifo)),
        (2, "b", FILE),
        (9, "c", FILE),
        (9, "d", None),
    ];
    let image = of(&machine, &entries);
    let root = image.inode(1).unwrap();
    assert_eq!(root.lookup(b"a"), Ok(Some(2)));
    assert_eq!(root.lookup(b"d"), Ok(None));
    assert!(image.lines().is_empty());
    for name in [b"b", b"c"] {
        assert_eq!(root.lookup(name), Err(EUCLEAN));
    }
    let lines = image.lines();
    let text = "inode 1: a directory entry has another type than its inode";
    assert!(lines.iter().any(|line| line.contains(text)), "{lines:?}");
}
