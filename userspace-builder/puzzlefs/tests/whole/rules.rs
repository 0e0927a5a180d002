// SPDX-License-Identifier: Apache-2.0
//! What FORMAT.md leaves no choice about: owners, extended attributes, names, of images that no
//! builder makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::message::{tag_rootfs, tree, Message, FIFO, FILE};
use crate::common::{open, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::base::text::is_harmful;
use puzzlefs::extract::extract;
use puzzlefs::layout::Layout;
use puzzlefs::verify::verify;

/// A layout with an image `tag` that has this Rootfs.
fn layout(dir: &Path, rootfs: &[u8]) -> PathBuf {
    let layout = dir.join("layout");
    Layout::open_or_create(&layout).unwrap();
    tag_rootfs(&layout, "tag", rootfs, &[]);
    layout
}

/// Gives the inode at `at` extended attributes.
fn xattrs(message: &mut Message, at: usize, list: &[(&str, &str)]) {
    let additional = message.at();
    message.0.extend([0, 0]);
    message.structure(at + 7, additional, 0, 2);
    let first = message.list(additional, list.len() as u64, 0, 2);
    for (at, (name, value)) in (first..).step_by(2).zip(list) {
        for (at, text) in [(at, name), (at + 1, value)] {
            let place = message.text(text.as_bytes());
            message.bytes(at, place, text.len() as u64);
        }
    }
}

#[test]
fn an_owner_is_somebody() {
    for (word, owner) in [(1, 0xffff_ffff << 32), (2, 0xffff_ffff)] {
        let dir = scratch();
        let rootfs = tree(3, 1, 1, |message, at, _| message.0[at + word] |= owner);
        let layout = layout(dir.path(), &rootfs);
        let image = open(&layout, "tag");
        let report = verify(&image, &Silent).unwrap();
        assert!(report.errors[0].contains("nobody's"), "{report:?}");
        let error = extract(&image, &dir.path().join("out"), &Silent).unwrap_err();
        assert!(format!("{error:#}").contains("nobody's"), "{error:#}");
    }
}

/// Readers show some attributes, and of several of a name the first.
#[test]
fn shown_attributes_are_extracted() {
    let dir = scratch();
    let fill = |twice: bool| {
        tree(3, 1, 2, move |message, at, index| match index {
            0 => {
                message.inode(at, 2, FILE, 0);
                let second = if twice { "user.a" } else { "user.b" };
                let list = [
                    ("user.a", "first"),
                    (second, "second"),
                    ("btrfs.compression", "lzo"),
                ];
                xattrs(message, at, &list);
            }
            _ => xattrs(
                message,
                at,
                &[("user.on-a-fifo", "x"), ("system.nfs4_acl", "x")],
            ),
        })
    };
    for (twice, hidden) in [(false, 3), (true, 4)] {
        let layout = layout(dir.path(), &fill(twice));
        let image = open(&layout, "tag");
        let report = verify(&image, &Silent).unwrap();
        assert_eq!(report.errors.len(), usize::from(twice), "{report:?}");
        let warned = report.warnings.iter().any(|w| w.starts_with("3 extended"));
        assert_eq!(warned, !twice, "{report:?}");
        let out = dir.path().join(format!("out{hidden}"));
        assert_eq!(extract(&image, &out, &Silent).unwrap().hidden, hidden);
        let mut value = [0; 100];
        let len = rustix::fs::getxattr(out.join("000000"), "user.a", &mut value[..]).unwrap();
        assert_eq!(&value[..len], b"first");
    }
}

/// From version 6 on a file says how long it is.
#[test]
fn a_size_is_recorded() {
    let dir = scratch();
    let file = |version, size| {
        tree(version, 1, 1, move |message, at, _| {
            message.inode(at, 2, FILE, size);
            message.0[at + 1] |= 1 << 31; // It has holes.
            let list = message.list(at + 6, 1, 1, 0);
            message.0[list] = 4096;
        })
    };
    for (version, size, good) in [(5, 0, true), (6, 4096, true), (6, 0, false)] {
        let layout = layout(dir.path(), &file(version, size));
        let report = verify(&open(&layout, "tag"), &Silent).unwrap();
        assert_eq!(report.errors.is_empty(), good, "{report:?}");
    }
}

/// What readers may take in two ways, or what Linux does not take, is damage.
#[test]
fn one_image_says_one_thing() {
    type Change = fn(&mut Message, usize);
    let nothing: Change = |_, _| {};
    let zero: Change = |message, at| message.0[at] = 0;
    let again: Change = |message, at| message.0[at + 8] = 2;
    let acl: Change = |message, at| xattrs(message, at, &[("system.posix_acl_access", "no ACL")]);
    let capability: Change = |message, at| xattrs(message, at, &[("security.capability", "?")]);
    let said = [
        (3, nothing, ""),
        (3, again, ""),
        (3, zero, "the number 0"),
        (6, again, "comes after inode 2"),
        (3, acl, "Linux does not take"),
        (3, capability, "Linux does not take"),
    ];
    for (version, change, words) in said {
        let dir = scratch();
        let rootfs = tree(version, 1, 2, |message, at, index| {
            if index == 1 {
                change(message, at - 8);
            }
        });
        let report = verify(&open(&layout(dir.path(), &rootfs), "tag"), &Silent).unwrap();
        let found = report.errors.first().map_or("", String::as_str);
        assert_eq!(found.is_empty(), words.is_empty(), "{report:?}");
        assert!(found.contains(words), "{report:?}");
    }
}

/// As many entries of one name whose inodes are not there as a mount looks at.
#[test]
fn removed_entries_are_not_too_many() {
    for (count, good) in [(1024, true), (1025, false)] {
        let dir = scratch();
        let rootfs = tree(3, 1, 1, |message, at, _| {
            let mut entries = vec![(9, &b"name"[..]); count];
            entries.push((2, b"name"));
            message.dir(at - 8, &entries);
        });
        let report = verify(&open(&layout(dir.path(), &rootfs), "tag"), &Silent).unwrap();
        assert_eq!(report.errors.is_empty(), good, "{report:?}");
    }
}

/// A directory that says so is sorted.
#[test]
fn names_are_in_order() {
    for (second, good) in [(&b"000001"[..], true), (b"!", false)] {
        let dir = scratch();
        let rootfs = tree(3, 1, 2, |message, at, index| {
            if index == 1 {
                let root = at - 16;
                message.dir(root, &[(2, b"000000"), (3, second)]);
                let dir = root + 7 + (message.0[root + 6] as u32 as usize >> 2);
                message.0[dir] |= 2;
            }
        });
        let report = verify(&open(&layout(dir.path(), &rootfs), "tag"), &Silent).unwrap();
        assert_eq!(report.errors.is_empty(), good, "{report:?}");
    }
}

fn run(args: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_puzzlefs"))
        .args(args)
        .output();
    command.unwrap()
}

/// In output, errors and JSON, of all commands that read.
#[test]
fn no_name_reaches_a_terminal_raw() {
    let names = [
        &b"\x1b]0;x\x07"[..],
        b"a\nb\rc\x7f",
        b"\xc2\x9b31m",
        b"\x9b31m",
        "\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}".as_bytes(),
    ];
    for name in names {
        let dir = scratch();
        // Twice, so that to verify and to extract it fails.
        let rootfs = tree(3, 1, 2, |message, at, index| {
            message.inode(at, index + 2, FIFO, 0);
            if index == 1 {
                let place = message.text(name);
                let root = at - 16;
                let entries = root + 7 + (message.0[root + 6] as u32 as usize >> 2) + 3;
                for entry in [entries, entries + 2] {
                    message.bytes(entry + 1, place, name.len() as u64);
                }
            }
        });
        let layout = layout(dir.path(), &rootfs);
        let image = format!("{}:tag", layout.display());
        let out = dir.path().join("out");
        let mut shown = 0;
        for args in [
            &["ls", &image][..],
            &["ls", "-l", &image],
            &["ls", "--format", "json", &image],
            &["verify", &image],
            &["verify", "--format", "json", &image],
            &["extract", &image, out.to_str().unwrap()],
            &["inspect", &image],
        ] {
            let output = run(args);
            for text in [output.stdout, output.stderr] {
                let text = String::from_utf8(text).expect("UTF-8");
                assert!(
                    !text.contains(|c| c != '\n' && is_harmful(c)),
                    "{args:?}: {text:?}"
                );
                let lines = text.lines().filter(|line| line.contains('\\')).count();
                shown += lines;
            }
        }
        assert!(shown >= 6, "{shown}");
        let raw = run(&["ls", "-z", &image]).stdout;
        let path = [b"/", name, b"\0"].concat();
        assert_eq!(raw, path.repeat(2));
        let json = run(&["ls", "--format", "json", &image]).stdout;
        let line = json.split(|b| *b == b'\n').next().unwrap();
        let item: serde_json::Value = serde_json::from_slice(line).unwrap();
        match std::str::from_utf8(name) {
            Ok(name) => assert_eq!(item["path"], format!("/{name}")),
            Err(_) => assert_eq!(item["path_hex"], "2f9b33316d"),
        }
    }
}
