// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Limits that only big metadata comes near. The messages are almost all zeros, which
//! nobody reads, so they take up no memory.

use puzzlefs_format::{limits, Error, Inode, Rootfs};

const DIR: u64 = 3;
const FILE: u64 = 5;

/// Metadata with one inode, of this `mode`, that leads to a list of `len` elements of a
/// word each.
fn message(mode: u64, len: u32) -> Vec<u8> {
    let list = |words: u64| (words << 35) | (7 << 32) | 1;
    let words = u64::from(len);
    let far_to_segment_1: u64 = (1 << 32) | 2;
    let member = if mode == DIR {
        1 << 48
    } else {
        far_to_segment_1
    };
    let head = [
        // Two segments: 10 words, and the list.
        1 | (10 << 32),
        2 + words,
        // The Rootfs: a word and a pointer. Its version, its only layer.
        (1 << 48) | (1 << 32),
        3,
        list(1),
        (1 << 48) | (1 << 2),
        // The only inode: two words and a pointer. Its number and its mode.
        list(3),
        (1 << 48) | (2 << 32) | (1 << 2),
        1,
        mode,
        // A directory is a struct of one pointer more.
        member,
        if mode == DIR { far_to_segment_1 } else { 0 },
        // The list: its pointer and its tag.
        list(words),
        (1 << 32) | (words << 2),
    ];
    let mut message = vec![0; (head.len() + usize::try_from(len).unwrap()) * 8];
    for (to, word) in message.chunks_exact_mut(8).zip(head) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    message
}

fn check(message: &[u8]) -> Result<(), Error> {
    let rootfs = Rootfs::parse(message)?;
    let inode: Inode<'_> = rootfs.inode(1)?.expect("an inode");
    inode.kind().map(drop)
}

#[test]
fn directory_entries() {
    assert_eq!(check(&message(DIR, limits::MAX_DIR_ENTRIES)), Ok(()));
    let error = check(&message(DIR, limits::MAX_DIR_ENTRIES + 1));
    assert_eq!(error, Err(Error::LimitExceeded));
}

#[test]
fn extents() {
    assert_eq!(check(&message(FILE, limits::MAX_EXTENTS)), Ok(()));
    let error = check(&message(FILE, limits::MAX_EXTENTS + 1));
    assert_eq!(error, Err(Error::LimitExceeded));
}

#[test]
fn rootfs() {
    // The first segment is the rest of the message, and empty: the root is null.
    let error = |len: usize| {
        let mut message = vec![0; len];
        let words = u32::try_from(len / 8 - 1).unwrap();
        message[4..8].copy_from_slice(&words.to_le_bytes());
        Rootfs::parse(&message).err()
    };
    assert_eq!(error(limits::MAX_ROOTFS_BYTES), Some(Error::BadPointer));
    assert_eq!(
        error(limits::MAX_ROOTFS_BYTES + 8),
        Some(Error::LimitExceeded)
    );
}
