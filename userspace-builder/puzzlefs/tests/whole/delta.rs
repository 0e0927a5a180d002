// SPDX-License-Identifier: Apache-2.0
//! An image built on a base reads the same as one built without.

use std::fs;
use std::path::Path;

use crate::common::{assert_same_tree, build_into, everything, faults, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::Options;

fn change(root: &Path) {
    fs::remove_file(root.join("many/file7")).unwrap();
    fs::write(root.join("many/file301"), "new").unwrap();
    fs::rename(root.join("many/file8"), root.join("deep/file8")).unwrap();
    fs::write(root.join("bin/tool"), "changed, under both names").unwrap();
    // Types that change, both ways.
    fs::remove_dir(root.join("empty")).unwrap();
    fs::write(root.join("empty"), "a file now").unwrap();
    fs::remove_file(root.join("nothing")).unwrap();
    fs::create_dir(root.join("nothing")).unwrap();
    fs::write(root.join("nothing/inside"), "something").unwrap();
    fs::remove_dir_all(root.join("deep/er/still")).unwrap();
    // A hard link more.
    fs::hard_link(root.join("bin/edge"), root.join("edge-too")).unwrap();
}

/// Separates the names of what was one inode.
fn change_again(root: &Path) {
    fs::remove_file(root.join("edge-too")).unwrap();
    fs::copy(root.join("bin/edge"), root.join("edge-too")).unwrap();
    fs::remove_dir_all(root.join("many")).unwrap();
}

#[test]
fn a_delta_reads_as_a_full_build() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    let layout = dir.path().join("layout");
    build_into(&root, &layout, "v1", &options());
    for (base, tag, change) in [
        ("v1", "v2", change as fn(&Path)),
        ("v2", "v3", change_again),
    ] {
        change(&root);
        let delta = Options {
            base: Some(base.parse().unwrap()),
            ..options()
        };
        build_into(&root, &layout, tag, &delta);
        assert_eq!(faults(&layout, tag), [""; 0]);
        let target = dir.path().join(format!("out-{tag}"));
        puzzlefs::extract::extract(&open(&layout, tag), &target, &Silent).unwrap();
        assert_same_tree(&root, &target);
    }
    let image = open(&layout, "v3");
    assert_eq!(image.rootfs().unwrap().layers(), 3);
    // An inode keeps its number, by its path.
    let ino = |tag, path: &[u8]| open(&layout, tag).lookup(path).unwrap().ino();
    assert_eq!(ino("v1", b"bin/text"), ino("v3", b"bin/text"));
    assert_eq!(ino("v1", b"empty"), ino("v2", b"empty"));
    // What is gone is gone by its number, too: a whiteout.
    let gone = ino("v1", b"many/file7");
    assert!(open(&layout, "v2")
        .rootfs()
        .unwrap()
        .inode(gone)
        .unwrap()
        .is_none());
}

#[test]
fn a_delta_of_the_same_tree_adds_no_vector() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    let layout = dir.path().join("layout");
    build_into(&root, &layout, "v1", &options());
    let delta = Options {
        base: Some("v1".parse().unwrap()),
        ..options()
    };
    build_into(&root, &layout, "v2", &delta);
    assert_eq!(open(&layout, "v2").rootfs().unwrap().layers(), 1);
    assert_eq!(faults(&layout, "v2"), [""; 0]);
}

#[test]
fn a_small_change_gives_a_small_vector() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    let layout = dir.path().join("layout");
    build_into(&root, &layout, "v1", &options());
    fs::write(root.join("bin/edge"), crate::common::noise(40_000, 77)).unwrap();
    let delta = Options {
        base: Some("v1".parse().unwrap()),
        ..options()
    };
    build_into(&root, &layout, "v2", &delta);
    let image = open(&layout, "v2");
    assert_eq!(image.rootfs().unwrap().vector(0).unwrap().len(), 1);
}
