// SPDX-License-Identifier: Apache-2.0
//! Chunks move between packs and blobs of their own; images stay the same.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::common::layout::{blobs, edit_index, packs};
use crate::common::{
    assert_same_tree, build_into, everything, faults, loose, noise, open, options, scratch,
};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::Options;
use puzzlefs::chunks::sink::Form;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::reports::du::du;
use puzzlefs::upkeep::convert::{repack, unpack, Report};
use puzzlefs::upkeep::gc::gc;
use puzzlefs_format::Digest;

const TARGET: u64 = 300_000;

fn pack_all(layout: &Path, tags: &[&str], max_unused: u8) -> Report {
    let layout = Layout::open(layout).unwrap();
    let tags: Vec<Name> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    let report = repack(&layout, &tags, TARGET, max_unused, &Silent).unwrap();
    gc(&layout, false, &Silent).unwrap();
    report
}

/// Chunks of the packs of some images, with how often they are there; number of packs.
fn packed(layout: &Path, tags: &[&str]) -> (usize, usize, usize) {
    let packs: HashSet<Digest> = tags.iter().flat_map(|tag| packs(layout, tag)).collect();
    let opened = Layout::open(layout).unwrap();
    let entries = packs
        .iter()
        .flat_map(|pack| puzzlefs::chunks::pack::open(&opened, pack).unwrap().1);
    let entries: Vec<Digest> = entries.map(|entry| entry.digest).collect();
    let distinct: HashSet<&Digest> = entries.iter().collect();
    (distinct.len(), entries.len(), packs.len())
}

fn extracts_to(layout: &Path, tag: &str, root: &Path, out: &Path) {
    assert_eq!(faults(layout, tag), [""; 0]);
    puzzlefs::extract::extract(&open(layout, tag), out, &Silent).unwrap();
    assert_same_tree(root, out);
    fs::remove_dir_all(out).unwrap();
}

/// The parts of du add up to what is on the disk.
fn check_du(layout: &Path) -> puzzlefs::reports::du::Report {
    let report = du(&Layout::open(layout).unwrap()).unwrap();
    let disk: u64 = blobs(layout).values().sum();
    assert_eq!(report.total_bytes, disk);
    let parts = [
        report.chunks.bytes,
        report.metadata_bytes,
        report.surplus_bytes,
        report.other_bytes,
        report.garbage_bytes,
    ];
    assert_eq!(parts.iter().sum::<u64>(), disk, "{report:?}");
    report
}

#[test]
fn there_and_back_again() {
    let dir = scratch();
    let (root, layout, out) = (
        dir.path().join("root"),
        dir.path().join("layout"),
        dir.path().join("out"),
    );
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "tag", &loose());
    let rootfs = *open(&layout, "tag").rootfs_digest();
    let chunks = check_du(&layout).chunks;

    let report = pack_all(&layout, &[], 10);
    assert_eq!(report.images.len(), 1);
    let manifest = open(&layout, "tag").manifest_digest().to_string();
    assert_eq!(report.images[0].manifest, manifest);
    assert_ne!(report.images[0].old_manifest, manifest);
    assert!(packs(&layout, "tag").len() > 1);
    // Packs, Rootfs, manifest and configuration; the manifest of before, and the ends of its packs.
    assert_eq!(blobs(&layout).len(), packs(&layout, "tag").len() + 5);
    extracts_to(&layout, "tag", &root, &out);
    assert_eq!(check_du(&layout).chunks, chunks);

    // Again: nothing to do.
    let report = pack_all(&layout, &[], 10);
    assert_eq!(
        (report.new_blobs, &report.images[0].manifest),
        (0, &manifest)
    );

    let opened = Layout::open(&layout).unwrap();
    unpack(&opened, &["tag".parse().unwrap()], &Silent).unwrap();
    gc(&opened, false, &Silent).unwrap();
    assert!(packs(&layout, "tag").is_empty());
    extracts_to(&layout, "tag", &root, &out);
    assert_eq!(*open(&layout, "tag").rootfs_digest(), rootfs);
    assert_eq!(check_du(&layout).chunks, chunks);
}

/// Versions of a tree, each with its packs, of which the first goes.
#[test]
fn repack_drops_what_no_image_uses() {
    let dir = scratch();
    let (root, layout, out) = (
        dir.path().join("root"),
        dir.path().join("layout"),
        dir.path().join("out"),
    );
    fs::create_dir(&root).unwrap();
    for i in 0..60 {
        fs::write(root.join(format!("{i}")), noise(40_000, i)).unwrap();
    }
    let small = Options {
        form: Form::Packs { target: TARGET },
        ..options()
    };
    for (version, tag) in ["v1", "v2", "v3"].iter().enumerate() {
        for i in 0..30 {
            let seed = 1000 * (version as u64 + 1) + i;
            fs::write(root.join(format!("{}", 2 * i)), noise(40_000, seed)).unwrap();
        }
        build_into(&root, &layout, tag, &small);
    }
    let report = check_du(&layout);
    // 30 files stay, 30 are each version's own.
    let own: Vec<u64> = report.images.iter().map(|image| image.own.chunks).collect();
    assert!(own.iter().all(|chunks| *chunks >= 30), "{own:?}");
    assert!(
        report.images.iter().all(|i| i.shared.chunks >= 30),
        "{report:?}"
    );

    edit_index(&layout, |list| drop(list.remove(0)));
    gc(&Layout::open(&layout).unwrap(), false, &Silent).unwrap();
    let wasted = check_du(&layout).surplus_bytes;
    assert!(wasted > 1_000_000, "{wasted}");

    // One image alone: the packs that the other one has stay, and are used.
    pack_all(&layout, &["v3"], 0);
    let (distinct, all, _) = packed(&layout, &["v2", "v3"]);
    assert_eq!(distinct, all);
    for tag in ["v2", "v3"] {
        assert_eq!(faults(&layout, tag), [""; 0]);
    }
    pack_all(&layout, &[], 0);
    let (distinct, all, count) = packed(&layout, &["v2", "v3"]);
    let report = check_du(&layout);
    assert_eq!(
        (distinct as u64, all as u64),
        (report.chunks.chunks, report.chunks.chunks)
    );
    assert_eq!(
        report.surplus_bytes,
        40 * distinct as u64 + 8 * count as u64
    );
    extracts_to(&layout, "v3", &root, &out);
    assert_eq!(faults(&layout, "v2"), [""; 0]);
    assert_eq!(pack_all(&layout, &[], 0).new_blobs, 0);
}

/// Many small builds leave many small packs.
#[test]
fn small_packs_become_one() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    // A build stores small files last, a repack all by their paths.
    fs::write(root.join("a"), noise(500, 1)).unwrap();
    fs::write(root.join("b"), noise(100_000, 2)).unwrap();
    build_into(&root, &layout, "tag", &options());
    assert_eq!(
        pack_all(&layout, &[], 10).new_blobs,
        0,
        "there was one already"
    );
    for i in 0..5 {
        fs::write(root.join(format!("{i}")), noise(40_000, i)).unwrap();
        build_into(&root, &layout, "tag", &options());
    }
    assert_eq!(packs(&layout, "tag").len(), 6);
    pack_all(&layout, &[], 10);
    assert_eq!(packs(&layout, "tag").len(), 1);
    assert_eq!(faults(&layout, "tag"), [""; 0]);
    assert_eq!(pack_all(&layout, &[], 10).new_blobs, 0);
}

/// What else a manifest and an entry of index.json say is none of our business.
#[test]
fn only_layers_change() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(100_000, 1)).unwrap();
    let dated = Options {
        source_date_epoch: Some(1_700_000_000),
        ..loose()
    };
    build_into(&root, &layout, "tag", &dated);
    build_into(&root, &layout, "same", &dated);
    let read = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
    };
    edit_index(&layout, |list| {
        list[0]["annotations"]["note"] = "kept".into();
    });
    let index = read();
    pack_all(&layout, &["tag"], 10);
    let after = read();
    assert_eq!(
        after["manifests"][0]["annotations"],
        index["manifests"][0]["annotations"]
    );
    assert_ne!(
        after["manifests"][0]["digest"],
        index["manifests"][0]["digest"]
    );
    assert_eq!(after["manifests"][1], index["manifests"][1]);
    let text = String::from_utf8(open(&layout, "tag").manifest_bytes().to_vec()).unwrap();
    assert!(text.contains("2023-11-14T22:13:20Z"), "{text}");
    for tag in ["tag", "same"] {
        assert_eq!(faults(&layout, tag), [""; 0]);
    }
}

/// Damage stops a conversion, and leaves the layout as it was.
#[test]
fn damaged_chunks_are_not_carried_over() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(100_000, 1)).unwrap();
    build_into(&root, &layout, "tag", &options());
    let pack = packs(&layout, "tag")[0].to_string();
    let path = layout.join("blobs/sha256").join(&pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let index = fs::read(layout.join("index.json")).unwrap();
    let opened = Layout::open(&layout).unwrap();
    let error = unpack(&opened, &[], &Silent).unwrap_err();
    assert!(format!("{error:#}").contains(&pack), "{error:#}");
    let error = repack(&opened, &[], 1, 0, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains(&pack), "{error:#}");
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), index);
    assert_eq!(fs::read_dir(&layout).unwrap().count(), 3);
}
