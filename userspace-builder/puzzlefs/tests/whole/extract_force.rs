// SPDX-License-Identifier: Apache-2.0
//! An image is extracted into a directory that has something already.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::command::{failure, puzzlefs, success};
use crate::common::ordinary::Place;
use crate::common::{build_into, options};

/// The image of `t`; and the directory `d`, that a script has made.
fn place(tree: &str, there: &str) -> Place {
    let place = Place::new();
    place.sh(&format!(
        "umask 022; mkdir t d; (cd t; {tree}); (cd d; {there})"
    ));
    build_into(&place.at("t"), &place.at("L"), "t", &options());
    place
}

fn extract(place: &Place, more: &[&str]) -> std::process::Output {
    let (image, dir) = (format!("{}:t", place.at("L").display()), place.at("d"));
    puzzlefs(&[&["extract", &image, dir.to_str().unwrap()], more].concat())
}

fn text(place: &Place, name: &str) -> String {
    fs::read_to_string(place.at("d").join(name)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

const ACL: &str = "system.posix_acl_access";

const TREE: &str = "mkdir -p etc/new usr/bin was-link was-file; echo new >etc/a; echo new >etc/new/b
    echo new >usr/bin/x; ln usr/bin/x usr/bin/y; ln -s a etc/link; echo new >was-dir; echo in >was-link/in
    echo in >was-file/in; echo new >hard; chmod 750 etc; chmod 1777 usr; chmod 711 usr/bin; chmod 700 .";

#[test]
fn what_is_there_stays_or_is_replaced() {
    let there = "mkdir -p etc usr/bin was-dir ../outside; echo old >etc/a; echo old >etc/own
        echo secret >../outside/file; ln -s ../../outside/file usr/bin/x; ln -s ../../outside etc/link
        ln -s ../outside was-link; echo old >was-file; echo old >hard; ln hard other; chmod 777 etc
        mkdir .puzzlefs-extract-1; echo half >.puzzlefs-extract-1/x";
    let place = place(TREE, there);
    // That user 7 may do everything is nothing that the image says.
    let none = u32::MAX;
    let entries = [
        (1u16, 7u16, none),
        (2, 7, 7),
        (4, 5, none),
        (16, 7, none),
        (32, 5, none),
    ];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        acl.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(place.at("d/etc"), ACL, &acl, flags).unwrap();
    let said = failure(&extract(&place, &[]));
    assert!(said.contains("--force"), "{said}");
    let report = success(&extract(&place, &["--force", "--format=json"]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    // etc/a, etc/link, usr/bin/x, was-link, was-file, was-dir, hard.
    assert_eq!(report["replaced"], 7);
    for name in [
        "etc/a",
        "etc/new/b",
        "usr/bin/x",
        "usr/bin/y",
        "was-dir",
        "hard",
    ] {
        assert_eq!(text(&place, name), "new\n", "{name}");
    }
    for name in ["was-link/in", "was-file/in"] {
        assert_eq!(text(&place, name), "in\n", "{name}");
    }
    for name in ["etc/own", "other"] {
        assert_eq!(text(&place, name), "old\n", "{name}");
    }
    assert_eq!(
        fs::read_link(place.at("d/etc/link")).unwrap(),
        Path::new("a")
    );
    // Nothing was written through a link, or into what one leads to.
    let outside = fs::read_dir(place.at("outside")).unwrap();
    assert_eq!(outside.count(), 1);
    let secret = fs::read_to_string(place.at("outside/file"));
    assert_eq!(secret.unwrap(), "secret\n");
    for (name, wanted) in [
        ("d", 0o700),
        ("d/etc", 0o750),
        ("d/usr", 0o1777),
        ("d/usr/bin", 0o711),
    ] {
        assert_eq!(mode(&place.at(name)), wanted, "{name}");
    }
    let ino = |name: &str| fs::metadata(place.at(name)).unwrap().ino();
    assert_eq!(ino("d/usr/bin/x"), ino("d/usr/bin/y"));
    for name in ["", "etc", "etc/new"] {
        let mtime = |root: &str| {
            fs::metadata(place.at(root).join(name))
                .unwrap()
                .mtime_nsec()
        };
        assert_eq!(mtime("t"), mtime("d"), "{name}");
    }
    assert!(rustix::fs::lgetxattr(place.at("d/etc"), ACL, &mut [0; 64][..]).is_err());
    // Nor is anything left of this run, or of one that was killed.
    let names = fs::read_dir(place.at("d")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("puzzlefs")));
    // Once more: all that is no directory is replaced by the same.
    success(&extract(&place, &["-f"]));
    assert_eq!(text(&place, "etc/own"), "old\n");
}

#[test]
fn a_directory_with_something_in_it_is_not_replaced() {
    let place = place(
        TREE,
        "mkdir -p was-dir/in etc; echo old >was-dir/in/file; echo old >etc/a",
    );
    let said = failure(&extract(&place, &["--force"]));
    assert!(
        said.contains("was-dir") && said.contains("remove"),
        "{said}"
    );
    assert_eq!(extract(&place, &["--force"]).status.code(), Some(5));
    // Nothing was moved before that was seen.
    assert_eq!(text(&place, "etc/a"), "old\n");
    assert_eq!(fs::read_dir(place.at("d")).unwrap().count(), 2);
    success(&extract(&place, &["--force", "/etc"]));
    assert_eq!(text(&place, "etc/a"), "new\n");
}

#[test]
fn of_single_paths_the_directories_above_stay_as_they_are() {
    let place = place(
        TREE,
        "mkdir -p etc usr; echo old >etc/own; chmod 711 . etc; chmod 755 usr",
    );
    success(&extract(
        &place,
        &["--force", "/etc/a", "usr/bin", "etc/new"],
    ));
    let list = puzzlefs(&["ls", "-R", &format!("{}:t", place.at("L").display())]);
    assert!(success(&list).contains("hard"));
    assert_eq!(text(&place, "etc/a"), "new\n");
    assert_eq!(text(&place, "etc/own"), "old\n");
    assert!(!place.at("d/hard").exists() && !place.at("d/etc/link").exists());
    for (name, wanted) in [("d", 0o711), ("d/etc", 0o711), ("d/usr", 0o755)] {
        assert_eq!(mode(&place.at(name)), wanted, "{name}");
    }
    // One that is new gets what the image says.
    place.sh("rm -r d; mkdir d");
    success(&extract(&place, &["--force", "/etc/a"]));
    assert_eq!(mode(&place.at("d/etc")), 0o750);
    place.sh("rm -r d");
    success(&extract(&place, &["--force", "/etc/a"]));
    assert_eq!(mode(&place.at("d")), 0o700);
}
