// SPDX-License-Identifier: Apache-2.0
//! The manifest of before a conversion: it can be made again, or it is said that it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::layout::{blobs, store};
use crate::common::pulls::{assert_whole, manifest, name, tree};
use crate::common::{build_into, faults, loose, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::pull::complete::complete;
use puzzlefs::upkeep::convert::{self, Origin};
use puzzlefs::upkeep::{gc::gc, remove::remove};
use puzzlefs::verify::verify;
use puzzlefs_format::Digest;

fn repack(layout: &Layout, pack: u64) -> Vec<Option<Origin>> {
    let report = convert::repack(layout, &[], pack, 0, &Silent).unwrap();
    report.images.into_iter().map(|i| i.origin).collect()
}

fn has_all(layout: &Path, before: &BTreeMap<String, u64>) {
    let there = blobs(layout);
    for (digest, size) in before {
        assert_eq!(there.get(digest), Some(size), "{digest}");
    }
}

/// Each form, made into each other and back.
#[test]
fn the_first_manifest_comes_back() {
    for (number, options) in [options(), loose()].into_iter().enumerate() {
        let dir = scratch();
        let (root, at) = (dir.path().join("root"), dir.path().join("layout"));
        tree(&root, 30);
        build_into(&root, &at, "a", &options);
        let (first, before) = (manifest(&at, "a"), blobs(&at));
        let layout = Layout::open(&at).unwrap();
        for round in 0..3 {
            let origins = match (number + round) % 2 {
                0 => {
                    let report = convert::unpack(&layout, &[], &Silent).unwrap();
                    report.images.into_iter().map(|i| i.origin).collect()
                }
                _ => repack(&layout, 1 << 20),
            };
            gc(&layout, false, &Silent).unwrap();
            // Loose chunks are as they were.
            if options.form == loose().form && round == 1 {
                assert_eq!(manifest(&at, "a"), first);
                continue;
            }
            let origin = origins[0].as_ref().unwrap();
            assert!(origin.kept, "{origin:?}");
            assert_eq!(origin.manifest, first);
            assert_ne!(manifest(&at, "a"), first);
            assert_eq!(faults(&at, "a"), [""; 0]);
            let pulled = verify(&open(&at, "a"), &Silent).unwrap().pulled.unwrap();
            assert_eq!((pulled.manifest, pulled.missing_chunks), (first.clone(), 0));
        }
        // By its own digest it is found, and made.
        let digest = Name::Digest(Digest::parse(first.as_bytes()).unwrap());
        assert_ne!(layout.resolve(&digest).unwrap().digest.to_string(), first);
        complete(&layout, &digest, None, &Silent).unwrap();
        assert_eq!(manifest(&at, "a"), first);
        has_all(&at, &before);
        assert_whole(&at);
    }
}

/// A manifest by somebody else, of whom spaces are to be signed as well.
#[test]
fn nothing_to_do_leaves_the_text() {
    let dir = scratch();
    let (root, at) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, 10);
    build_into(&root, &at, "a", &options());
    let value: serde_json::Value = serde_json::from_slice(open(&at, "a").manifest_bytes()).unwrap();
    let (other, size) = store(&at, &serde_json::to_vec_pretty(&value).unwrap());
    let layout = Layout::open(&at).unwrap();
    layout.set_tag("a", &other, size).unwrap();
    assert_eq!(repack(&layout, 16 << 20), [None]);
    assert_eq!(manifest(&at, "a"), other.to_string());
    // And comes back where there was something to do.
    convert::unpack(&layout, &[], &Silent).unwrap();
    gc(&layout, false, &Silent).unwrap();
    complete(&layout, &name("a"), None, &Silent).unwrap();
    assert_eq!(manifest(&at, "a"), other.to_string());
}

/// Chunks that no image uses are left out, and with them what has them.
#[test]
fn what_cannot_come_back_is_said() {
    let dir = scratch();
    let (root, at) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, 30);
    build_into(&root, &at, "old", &options());
    (0..15).for_each(|number| fs::remove_file(root.join(format!("{number:03}"))).unwrap());
    build_into(&root, &at, "new", &options());
    let (first, layout) = (manifest(&at, "new"), Layout::open(&at).unwrap());
    // As long as the other image is there, nothing is lost.
    convert::unpack(&layout, &[], &Silent).unwrap();
    let origins = repack(&layout, 1 << 20);
    assert!(origins.iter().flatten().all(|origin| origin.kept));
    assert_eq!(origins.len(), 2);
    remove(&layout, &name("old"), true, &Silent).unwrap();
    let origins = repack(&layout, 1 << 20);
    let origin = origins[0].as_ref().unwrap();
    assert_eq!((&origin.manifest, origin.kept), (&first, false));
    assert!(origin.missing_chunks >= 15, "{origin:?}");
    assert!(origin.missing_bytes >= 15 * 200_000, "{origin:?}");
    gc(&layout, false, &Silent).unwrap();
    let error = complete(&layout, &name("new"), None, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("--from"), "{error:#}");
    assert_eq!(faults(&at, "new"), [""; 0]);
}

/// An image that is not converted keeps its packs, and what they have.
#[test]
fn what_others_keep_counts() {
    let dir = scratch();
    let (root, at) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, 30);
    build_into(&root, &at, "old", &options());
    (0..15).for_each(|number| fs::remove_file(root.join(format!("{number:03}"))).unwrap());
    build_into(&root, &at, "new", &loose());
    let layout = Layout::open(&at).unwrap();
    let report = convert::repack(&layout, &[name("new")], 1 << 20, 0, &Silent).unwrap();
    let origin = report.images[0].origin.as_ref().unwrap();
    assert!(origin.kept, "{origin:?}");
    gc(&layout, false, &Silent).unwrap();
    let first = origin.manifest.clone();
    complete(&layout, &name("new"), None, &Silent).unwrap();
    assert_eq!(manifest(&at, "new"), first);
}

/// One tag for several images: the digest of each finds what stands for it, and complete changes the index.
#[test]
fn in_an_index_too() {
    let dir = scratch();
    let (root, at) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, 10);
    build_into(&root, &at, "a", &options());
    let (first, size) = (
        *open(&at, "a").manifest_digest(),
        open(&at, "a").manifest_bytes().len(),
    );
    let layout = Layout::open(&at).unwrap();
    let list = serde_json::json!([{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{first}"), "size": size,
    }]);
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": list });
    let (index, size) = store(&at, &serde_json::to_vec(&index).unwrap());
    layout
        .set_tag_as("a", "application/vnd.oci.image.index.v1+json", &index, size)
        .unwrap();
    convert::unpack(&layout, &[], &Silent).unwrap();
    gc(&layout, false, &Silent).unwrap();
    let digest = Name::Digest(first);
    assert_ne!(layout.resolve(&digest).unwrap().digest, first);
    complete(&layout, &name("a"), None, &Silent).unwrap();
    assert_eq!(layout.resolve(&name("a")).unwrap().digest, first);
    assert_eq!(layout.entries().unwrap()[0].digest, index);
    assert_eq!(faults(&at, "a"), [""; 0]);
}
