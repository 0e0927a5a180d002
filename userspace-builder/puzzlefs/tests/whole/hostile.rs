// SPDX-License-Identifier: Apache-2.0
//! Images made to harm who reads them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::common::layout::replace_rootfs;
use crate::common::{build_into, open, options, scratch, snapshot};
use puzzlefs::base::progress::Silent;

/// A tree with an image whose Rootfs can be changed.
struct Forge {
    dir: tempfile::TempDir,
    layout: PathBuf,
}

impl Forge {
    fn new(fill: impl Fn(&Path)) -> Self {
        let dir = scratch();
        let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
        fs::create_dir(&root).unwrap();
        fill(&root);
        build_into(&root, &layout, "good", &options());
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/precious"), "precious").unwrap();
        Forge { dir, layout }
    }

    /// Tags an image `bad` whose Rootfs has `from` replaced by `to`, wherever it stands.
    fn replace(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        self.patch(|rootfs| {
            let places =
                (0..=rootfs.len() - from.len()).filter(|&at| rootfs[at..].starts_with(from));
            let places: Vec<usize> = places.collect();
            assert!(!places.is_empty());
            places
                .iter()
                .for_each(|&at| rootfs[at..at + to.len()].copy_from_slice(to));
        });
    }

    /// Tags an image `bad` whose Rootfs `change` has changed.
    fn patch(&self, change: impl FnOnce(&mut [u8])) {
        let mut rootfs = open(&self.layout, "good").message().to_vec();
        change(&mut rootfs);
        replace_rootfs(&self.layout, &rootfs);
    }

    /// Extraction fails with `message`, nothing outside the target changes, and it is gone.
    fn assert_contained(&self, message: &str) {
        let outside = self.dir.path().join("outside");
        let before = snapshot(&outside);
        let target = self.dir.path().join("target");
        let image = open(&self.layout, "bad");
        let error = puzzlefs::extract::extract(&image, &target, &Silent).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(message), "{text}");
        assert_eq!(snapshot(&outside), before);
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["layout", "outside", "root"]);
        assert!(!puzzlefs::verify::verify(&image, &Silent)
            .unwrap()
            .errors
            .is_empty());
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    let forge = Forge::new(|root| {
        fs::create_dir(root.join("QQ")).unwrap();
        fs::write(root.join("QQ/precious"), "overwritten").unwrap();
    });
    for name in [b"..", b"Q/", b"\0Q"] {
        forge.replace(b"QQ", name);
        forge.assert_contained("directory entry");
    }
}

/// A symlink out of the target, and a directory of the same name with files to write.
#[test]
fn a_symlink_is_not_followed() {
    let forge = Forge::new(|root| {
        symlink("../outside", root.join("LINK1")).unwrap();
        fs::create_dir(root.join("LINK2")).unwrap();
        fs::write(root.join("LINK2/precious"), "overwritten").unwrap();
    });
    forge.replace(b"LINK2", b"LINK1");
    forge.assert_contained("exists");
}

/// A symlink to a file outside, and a file of the same name with other content.
#[test]
fn a_file_is_not_written_through_a_symlink() {
    let forge = Forge::new(|root| {
        symlink("../outside/precious", root.join("LINK1")).unwrap();
        fs::write(root.join("LINK2"), "overwritten").unwrap();
    });
    forge.replace(b"LINK2", b"LINK1");
    forge.assert_contained("exists");
}

/// The same, where the directory comes first and the link would replace it.
#[test]
fn a_directory_is_not_replaced() {
    let forge = Forge::new(|root| {
        fs::create_dir(root.join("LINK1")).unwrap();
        fs::write(root.join("LINK1/precious"), "overwritten").unwrap();
        symlink("../outside", root.join("LINK2")).unwrap();
    });
    forge.replace(b"LINK2", b"LINK1");
    forge.assert_contained("exists");
}

/// A directory that holds the root would never end.
#[test]
fn a_cycle_ends() {
    let forge = Forge::new(|root| fs::create_dir_all(root.join("a/NAME")).unwrap());
    // Its entry: inode 3, the type of a directory, and a pointer to a list of the name's 4 bytes.
    let length = ((4u32 << 3) | 2).to_le_bytes();
    forge.patch(|rootfs| {
        let starts = (0..rootfs.len() - 16).step_by(8);
        let is_it = |at: &usize| {
            let word = |number: usize| &rootfs[at + 8 * number..][..8];
            word(0) == 3u64.to_le_bytes() && word(1) == 3u64.to_le_bytes() && word(2)[4..] == length
        };
        let found: Vec<usize> = starts.filter(is_it).collect();
        assert_eq!(found.len(), 1);
        rootfs[found[0]] = 1;
    });
    let image = open(&forge.layout, "bad");
    let target = forge.dir.path().join("target");
    let error = puzzlefs::extract::extract(&image, &target, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("another name"), "{error:#}");
    puzzlefs::reports::inspect::inspect(&image).unwrap_err();
    puzzlefs::reports::list::list(&image, b"/", true, |_| Ok::<_, puzzlefs::Error>(()))
        .unwrap_err();
}

/// Directories whose entries are one list of hard links: much to visit, little to store.
#[test]
fn shared_lists_are_refused() {
    let forge = Forge::new(|root| {
        fs::write(root.join("file"), "content").unwrap();
        for dir in 0..1500 {
            let dir = root.join(format!("dir{dir:04}"));
            fs::create_dir(&dir).unwrap();
            if dir.ends_with("dir0000") {
                (0..1500).for_each(|i| {
                    fs::hard_link(root.join("file"), dir.join(format!("{i}"))).unwrap()
                });
            }
        }
    });
    forge.patch(|rootfs| {
        let word =
            |at: usize| -> u64 { u64::from_le_bytes(rootfs[at..at + 8].try_into().unwrap()) };
        let inode = |ino: u64| {
            let words = (0..rootfs.len() - 8).step_by(8);
            let mut places = words.filter(|&at| word(at) == ino && word(at + 8) & 0xffff == 3);
            places.next().unwrap()
        };
        // Their sixth word points to the struct Dir: all to that of the first.
        let first = inode(2) + 48;
        let (target, pointer) = (
            first as i64 + (word(first) as i32 >> 2) as i64 * 8,
            word(first),
        );
        let places: Vec<usize> = (3..=1501).map(|ino| inode(ino) + 48).collect();
        for at in places {
            let offset = (target - at as i64) / 8;
            let low = u64::from((offset as i32 as u32) << 2);
            let bytes = (pointer & !0xffff_ffff | low).to_le_bytes();
            rootfs[at..at + 8].copy_from_slice(&bytes);
        }
    });
    let image = open(&forge.layout, "bad");
    let errors = puzzlefs::verify::verify(&image, &Silent).unwrap().errors;
    let is_refused = |error: &String| error.contains("shared or repeated too often");
    assert!(errors.iter().any(is_refused), "{errors:?}");
    let listed =
        puzzlefs::reports::list::list(&image, b"/", true, |_| Ok::<_, puzzlefs::Error>(()));
    assert!(is_refused(&format!("{:#}", listed.unwrap_err())));
    // Filesystems have a limit of links, too.
    puzzlefs::extract::extract(&image, &forge.dir.path().join("target"), &Silent).unwrap_err();
}
