// SPDX-License-Identifier: Apache-2.0

//! What an entry says of its inode.

use format_tests::model::{Inode, Mode, Rootfs};
use puzzlefs_format as format;
use puzzlefs_format::{Dir, Error, FileType, Kind};

const FILE: Option<FileType> = Some(FileType::File);
const FIFO: Option<FileType> = Some(FileType::Fifo);

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

/// Runs `check` on a root directory of these entries, beside inode 2, a fifo, and what else is
/// given.
fn with(
    entries: &[(u64, &str, Option<FileType>)],
    more: Vec<Inode>,
    check: impl FnOnce(format::Rootfs<'_>, Dir<'_>),
) {
    let entries = entries
        .iter()
        .map(|(ino, name, file_type)| (*ino, name.as_bytes().to_vec(), *file_type));
    let root = inode(1, Mode::Dir(entries.collect()));
    let mut inodes = vec![root, inode(2, Mode::Fifo)];
    inodes.extend(more);
    let rootfs = Rootfs {
        version: 3,
        vectors: vec![inodes],
        verity: Vec::new(),
        inode_count: 0,
        data_size: 0,
    };
    let message = rootfs.write(64);
    let rootfs = format::Rootfs::parse(&message).unwrap();
    let Ok(Kind::Dir(root)) = rootfs.root().unwrap().kind() else {
        panic!("a directory");
    };
    check(rootfs, root);
}

/// Both ways to look a name up.
fn lookup(
    rootfs: &format::Rootfs<'_>,
    dir: &Dir<'_>,
    name: &str,
) -> [Result<Option<u64>, Error>; 2] {
    [true, false].map(|sorted| {
        let found = rootfs.lookup(dir, name.as_bytes(), sorted)?;
        Ok(found.map(|inode| inode.ino()))
    })
}

#[test]
fn what_is_wrong_is_refused_by_its_name_alone() {
    let wrong = Err(Error::BadEntryType);
    let entries = [
        (2, "a", FIFO),
        (2, "b", FILE),
        (9, "c", FILE),
        (2, "d", None),
        (9, "e", None),
    ];
    with(&entries, vec![], |rootfs, dir| {
        for (index, (name, right)) in (0..).zip([
            ("a", Ok(Some(2))),
            ("b", wrong),
            ("c", wrong),
            ("d", Ok(Some(2))),
            ("e", Ok(None)),
        ]) {
            assert_eq!(lookup(&rootfs, &dir, name), [right; 2], "{name}");
            let found = rootfs.live_entries(&dir).get(index);
            assert_eq!(
                found.map(|found| found.map(|(_, inode)| inode.ino())),
                right,
                "{name}"
            );
        }
    });
}

/// A removed inode is passed only if its entry says nothing of it.
#[test]
fn the_first_entry_of_a_name_that_says_something_counts() {
    let gone = || vec![inode(3, Mode::Wht)];
    with(&[(3, "a", None), (2, "a", FIFO)], gone(), |rootfs, dir| {
        assert_eq!(lookup(&rootfs, &dir, "a")[1], Ok(Some(2)));
    });
    with(&[(3, "a", FIFO), (2, "a", FIFO)], gone(), |rootfs, dir| {
        assert_eq!(lookup(&rootfs, &dir, "a")[1], Err(Error::BadEntryType));
    });
}
