// SPDX-License-Identifier: Apache-2.0

//! What several layers mean together, and what upstream's delta builds leave in one.

use format_tests::model::{Inode, Mode, Rootfs};
use puzzlefs_format as format;
use puzzlefs_format::{limits, Error, FileType, Kind};

/// An inode that can be told from others of its number by `uid`.
fn inode(ino: u64, uid: u32, mode: Mode) -> Inode {
    Inode {
        ino,
        mode,
        uid,
        gid: 0,
        permissions: 0o644,
        xattrs: Vec::new(),
        mtime: (0, 0),
        nlink: 0,
        parent: 0,
    }
}

fn dir(entries: &[(u64, &str)]) -> Mode {
    let entries = entries
        .iter()
        .map(|(ino, name)| (*ino, name.as_bytes().to_vec(), None));
    Mode::Dir(entries.collect())
}

fn rootfs(vectors: Vec<Vec<Inode>>) -> Rootfs {
    Rootfs {
        version: 3,
        vectors,
        verity: Vec::new(),
        inode_count: 0,
        data_size: 0,
    }
}

/// Runs `check` on the metadata with these layers.
fn with(vectors: Vec<Vec<Inode>>, check: impl FnOnce(format::Rootfs<'_>)) {
    check(format::Rootfs::parse(&rootfs(vectors).write(64)).unwrap());
}

fn uid(rootfs: &format::Rootfs<'_>, ino: u64) -> Option<u32> {
    rootfs.inode(ino).unwrap().map(|inode| inode.uid())
}

/// What the root directory shows: names in their order and whose they are.
fn list(rootfs: &format::Rootfs<'_>) -> Vec<(String, u32)> {
    let Ok(Kind::Dir(root)) = rootfs.root().unwrap().kind() else {
        panic!("a directory");
    };
    let sorted = root.is_sorted().unwrap();
    let mut list = Vec::new();
    let mut live = rootfs.live_entries(&root);
    for index in 0..root.len() {
        let name = root.entry(index).unwrap().name;
        if let Some((entry, inode)) = live.get(index).unwrap() {
            assert_eq!(entry.name, name);
            let found = rootfs.lookup(&root, name, sorted).unwrap().unwrap();
            assert_eq!(found.uid(), inode.uid());
            list.push((String::from_utf8(name.to_vec()).unwrap(), inode.uid()));
        }
    }
    list
}

fn lookup(rootfs: &format::Rootfs<'_>, name: &str) -> Option<u32> {
    let Ok(Kind::Dir(root)) = rootfs.root().unwrap().kind() else {
        panic!("a directory");
    };
    let sorted = root.is_sorted().unwrap();
    let inode = rootfs.lookup(&root, name.as_bytes(), sorted).unwrap();
    inode.map(|inode| inode.uid())
}

#[test]
fn newest_layer_counts() {
    let new = vec![
        inode(1, 10, dir(&[(2, "a"), (4, "d")])),
        inode(2, 20, Mode::Fifo),
        inode(4, 40, Mode::Sock),
    ];
    let old = vec![
        inode(1, 11, dir(&[(2, "a"), (3, "b")])),
        inode(2, 21, Mode::Sock),
        inode(3, 31, Mode::Fifo),
    ];
    with(vec![new, old], |rootfs| {
        assert_eq!(rootfs.layers(), 2);
        assert_eq!(rootfs.inode_count(), Ok(6));
        let inos = [1, 2, 3, 4, 5, 0, u64::MAX].map(|ino| uid(&rootfs, ino));
        assert_eq!(
            inos,
            [Some(10), Some(20), Some(31), Some(40), None, None, None]
        );
        assert_eq!(list(&rootfs), [("a".into(), 20), ("d".into(), 40)]);
    });
}

#[test]
fn whiteouts_hide() {
    // As upstream writes it: the removed name first, then the others in order.
    let new = vec![
        inode(1, 10, dir(&[(3, "m"), (2, "b"), (4, "z")])),
        inode(3, 0, Mode::Wht),
    ];
    let old = vec![
        inode(2, 21, Mode::Fifo),
        inode(3, 31, Mode::Fifo),
        inode(4, 41, Mode::Fifo),
    ];
    with(vec![new, old], |rootfs| {
        assert_eq!(uid(&rootfs, 3), None);
        assert_eq!(list(&rootfs), [("b".into(), 21), ("z".into(), 41)]);
        assert_eq!(lookup(&rootfs, "m"), None);
        assert_eq!(lookup(&rootfs, "b"), Some(21));
    });
}

#[test]
fn whiteouts_hide_in_a_sorted_directory() {
    let inodes = vec![
        inode(1, 10, dir(&[(2, "a"), (3, "b")])),
        inode(2, 0, Mode::Wht),
        inode(3, 30, Mode::Fifo),
    ];
    with(vec![inodes], |rootfs| {
        assert_eq!(list(&rootfs), [("b".into(), 30)]);
        assert_eq!(lookup(&rootfs, "a"), None);
    });
}

#[test]
fn later_entry_of_a_removed_name_counts() {
    // Bisection would meet the third, if equal names counted as sorted.
    let entries = [(2, "a"), (9, "a"), (2, "a"), (3, "a"), (4, "a")];
    let inodes = vec![
        inode(1, 10, dir(&entries)),
        inode(2, 0, Mode::Wht),
        inode(3, 30, Mode::Fifo),
        inode(4, 40, Mode::Fifo),
    ];
    with(vec![inodes], |rootfs| {
        assert_eq!(lookup(&rootfs, "a"), Some(30));
    });
}

/// However many there are, and however many are looked at in one go.
#[test]
fn removed_entries_of_a_name_are_passed() {
    let max = limits::MAX_LAYERS as usize;
    for removed in [max, max + 1, 10 * max] {
        let entries = [vec![(2, "a"); removed], vec![(3, "a")]].concat();
        let inodes = vec![
            inode(1, 10, dir(&entries)),
            inode(2, 0, Mode::Wht),
            inode(3, 30, Mode::Fifo),
        ];
        with(vec![inodes], |rootfs| {
            let Ok(Kind::Dir(root)) = rootfs.root().unwrap().kind() else {
                panic!("a directory");
            };
            let inode = rootfs.lookup(&root, b"a", false).unwrap();
            assert_eq!(inode.map(|inode| inode.uid()), Some(30));
            for step in [1, 7, 300] {
                let mut parts = (0..root.len()).step_by(step as usize).filter_map(|start| {
                    let part = start..root.len().min(start + step);
                    rootfs.lookup_in(&root, b"a", part, &mut 0).unwrap()
                });
                assert_eq!(parts.next().map(|inode| inode.uid()), Some(30));
            }
        });
    }
}

/// Upstream's delta of a hard link of which some names are gone and one is not.
#[test]
fn last_of_equal_numbers_counts() {
    for gap in [0, 5] {
        for whiteouts in 1..6 {
            let mut inodes = vec![inode(1, 10, dir(&[(2 + gap, "kept")]))];
            inodes.extend((0..whiteouts).map(|_| inode(2 + gap, 0, Mode::Wht)));
            inodes.push(inode(2 + gap, 20, Mode::Fifo));
            inodes.push(inode(3 + gap, 30, Mode::Fifo));
            with(vec![inodes], |rootfs| {
                let inos = [1, 2 + gap, 3 + gap, 4 + gap].map(|ino| uid(&rootfs, ino));
                assert_eq!(inos, [Some(10), Some(20), Some(30), None]);
                assert_eq!(lookup(&rootfs, "kept"), Some(20));
            });
        }
    }
    // And of one of which all names are gone.
    let inodes = vec![inode(2, 0, Mode::Wht), inode(2, 0, Mode::Wht)];
    with(vec![inodes, vec![inode(2, 20, Mode::Fifo)]], |rootfs| {
        assert_eq!(uid(&rootfs, 2), None);
    });
}

#[test]
fn empty_layers_are_harmless() {
    let inodes = vec![inode(1, 10, dir(&[]))];
    with(vec![vec![], inodes, vec![]], |rootfs| {
        assert_eq!(uid(&rootfs, 1), Some(10));
        assert_eq!(list(&rootfs), []);
    });
}

#[test]
fn root_must_be_a_directory() {
    for inodes in [
        vec![],
        vec![inode(1, 0, Mode::Wht)],
        vec![inode(1, 0, Mode::Fifo)],
        vec![inode(2, 0, dir(&[]))],
    ] {
        with(vec![inodes], |rootfs| {
            assert_eq!(rootfs.root().err(), Some(Error::NoRootDirectory));
        });
    }
    with(vec![vec![inode(1, 0, dir(&[]))]], |rootfs| {
        assert_eq!(rootfs.root().unwrap().file_type(), FileType::Dir);
    });
}

#[test]
fn versions() {
    for (version, error) in [
        (2, Some(Error::UnsupportedVersion(2))),
        (3, None),
        (4, None),
        (5, None),
        (6, None),
        (7, Some(Error::UnsupportedVersion(7))),
    ] {
        let rootfs = Rootfs {
            version,
            ..rootfs(vec![])
        };
        assert_eq!(format::Rootfs::parse(&rootfs.write(64)).err(), error);
    }
}
