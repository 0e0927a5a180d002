// SPDX-License-Identifier: Apache-2.0
//! Pulling: what comes is what the source has, and only what is missing comes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::common::layout::{blobs, store};
use crate::common::pulls::{assert_whole, manifest, name, pull, pull_from, tree, versions};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, loose, open, options, scratch, snapshot};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::reference::{Name, Reference};
use puzzlefs::layout::Layout;
use puzzlefs::pull::complete::complete;
use puzzlefs::pull::find;
use puzzlefs::remote::Remote;
use puzzlefs::source::Platform;
use puzzlefs::upkeep::{convert, gc::gc, remove::remove};
use puzzlefs::verify::verify;
use puzzlefs::Error;
use puzzlefs_format::Digest;

fn assert_same_files(dir: &Path, one: (&Path, &str), two: (&Path, &str)) {
    for (number, (layout, tag)) in [one, two].into_iter().enumerate() {
        let to = dir.join(format!("out{number}"));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to).unwrap();
        puzzlefs::extract::extract(&open(layout, tag), &to, &Silent).unwrap();
    }
    assert_eq!(snapshot(&dir.join("out0")), snapshot(&dir.join("out1")));
}

/// No chunk is in two packs.
fn assert_once(layout: &Path) {
    let mut seen = HashSet::new();
    for name in blobs(layout).into_keys() {
        let content = fs::read(layout.join("blobs/sha256").join(&name)).unwrap();
        let Some(rest) = content.strip_suffix(b"PzPk") else {
            continue;
        };
        let count = u32::from_le_bytes(*rest.last_chunk().unwrap()) as usize;
        let index = &rest[rest.len() - 4 - 40 * count..rest.len() - 4];
        for entry in index.chunks(40) {
            assert!(
                seen.insert(entry[..32].to_vec()),
                "a chunk is there twice: {name}"
            );
        }
    }
}

#[test]
fn a_first_pull_brings_the_same_blobs() {
    let dir = scratch();
    for (number, options) in [options(), loose()].into_iter().enumerate() {
        let root = dir.path().join(format!("root{number}"));
        tree(&root, 20);
        let from = dir.path().join(format!("from{number}"));
        let to = dir.path().join(format!("to{number}"));
        build_into(&root, &from, "v1", &options);
        let report = pull(&from, &to, "v1");
        assert!(report.complete);
        assert_eq!(report.chunks_found, 0);
        assert_eq!(blobs(&from), blobs(&to));
        assert_eq!(manifest(&from, "v1"), manifest(&to, "v1"));
        assert_eq!(faults(&to, "v1"), [""; 0]);
        // All is there: only the manifest is asked for.
        let again = pull(&from, &to, "v1");
        assert_eq!((again.requests, again.chunks_fetched), (1, 0));
        assert_eq!((again.new_blobs, again.new_bytes), (0, 0));
    }
}

#[test]
fn a_next_version_takes_what_differs() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 100);
    let to = dir.path().join("to");
    pull(&one, &to, "v1");
    let before = blobs(&to);
    let report = pull(&two, &to, "v2");
    assert!(!report.complete);
    assert_eq!(report.manifest, manifest(&two, "v2"));
    assert_eq!(report.local_manifest, manifest(&to, "v2"));
    // Ten files of 200,000 bytes, metadata, and what lies between.
    let differs = 10 * 200_000;
    assert!(report.bytes_fetched >= differs, "{report:?}");
    assert!(report.bytes_fetched < differs * 3 / 2, "{report:?}");
    assert!(report.requests < 40, "{report:?}");
    let sum = |blobs: &std::collections::BTreeMap<String, u64>| blobs.values().sum::<u64>();
    assert!(sum(&blobs(&to)) - sum(&before) < differs * 11 / 10);
    assert_whole(&to);
    assert_once(&to);
    for tag in ["v1", "v2"] {
        assert_eq!(faults(&to, tag), [""; 0]);
    }
    assert_same_files(dir.path(), (&two, "v2"), (&to, "v2"));
    // What is kept of the source is not garbage, and is enough.
    let layout = Layout::open(&to).unwrap();
    assert_eq!(gc(&layout, false, &Silent).unwrap().removed, [""; 0]);
    let checked = verify(&open(&to, "v2"), &Silent).unwrap().pulled.unwrap();
    assert_eq!(checked.manifest, manifest(&two, "v2"));
    assert_eq!((checked.missing_chunks, checked.packs), (0, 0));
    assert!(checked.composable > 0);
}

#[test]
fn the_digest_of_the_source_names_the_image() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 30);
    let to = dir.path().join("to");
    pull(&one, &to, "v1");
    let local = pull(&two, &to, "v2").local_manifest;
    let digest = *open(&two, "v2").manifest_digest();
    let layout = Layout::open(&to).unwrap();
    let found = layout.resolve(&Name::Digest(digest)).unwrap();
    assert_eq!(found.digest.to_string(), local);
    // Whoever says to stand for it must be of the same files.
    let text = fs::read_to_string(to.join("blobs/sha256").join(&local)).unwrap();
    let other = open(&to, "v1").rootfs_digest().to_string();
    let lie = text.replace(&open(&to, "v2").rootfs_digest().to_string(), &other);
    let (lie, size) = store(&to, lie.as_bytes());
    layout.set_tag("v2", &lie, size).unwrap();
    let found = layout.resolve(&Name::Digest(digest)).unwrap();
    assert_eq!(found.digest, digest);
    let report = verify(&open(&to, "v2"), &Silent).unwrap();
    assert!(
        report.warnings.iter().any(|w| w.contains("other files")),
        "{report:?}"
    );
    // Its entry can be removed by either digest.
    remove(&layout, &Name::Digest(digest), false, &Silent).unwrap();
    assert!(layout.resolve(&name("v2")).is_err());
}

#[test]
fn complete_makes_the_blobs_of_the_source() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 50);
    let to = dir.path().join("to");
    pull(&one, &to, "v1");
    pull(&two, &to, "v2");
    let layout = Layout::open(&to).unwrap();
    // Also after the chunks have moved.
    convert::repack(&layout, &[], 1 << 20, 0, &Silent).unwrap();
    gc(&layout, false, &Silent).unwrap();
    let report = complete(&layout, &name("v2"), None, &Silent).unwrap();
    assert!(report.made > 0 && report.fetched == 0, "{report:?}");
    assert_eq!(manifest(&to, "v2"), manifest(&two, "v2"));
    let there = blobs(&to);
    for (digest, size) in blobs(&two) {
        assert_eq!(there.get(&digest), Some(&size));
    }
    assert_whole(&to);
    for tag in ["v1", "v2"] {
        assert_eq!(faults(&to, tag), [""; 0]);
    }
    let again = complete(&layout, &name("v2"), None, &Silent).unwrap();
    assert_eq!((again.made, again.fetched), (0, 0));
}

/// What was pulled can be pulled on, with the digest that it had, from a layout that does not have all.
#[test]
fn a_layout_gives_what_was_pulled_into_it() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 50);
    let (middle, to) = (dir.path().join("middle"), dir.path().join("to"));
    pull(&one, &middle, "v1");
    assert!(!pull(&two, &middle, "v2").complete);
    let report = pull(&middle, &to, "v2");
    assert!(report.complete);
    assert_eq!(manifest(&to, "v2"), manifest(&two, "v2"));
    assert_eq!(blobs(&to), blobs(&two));
    // By its digest, too.
    let digest = Name::Digest(*open(&two, "v2").manifest_digest());
    let other = dir.path().join("other");
    pull_from(&Liar::new(&middle, Lie::None), &digest, &other, "x").unwrap();
    assert_eq!(blobs(&other), blobs(&two));
}

/// Packs of the source have chunks of other images, too.
#[test]
fn what_an_image_does_not_use_does_not_come() {
    let dir = scratch();
    let root = dir.path().join("root");
    let from = dir.path().join("from");
    tree(&root, 50);
    build_into(&root, &from, "v1", &options());
    (0..25).for_each(|number| fs::remove_file(root.join(format!("{number:03}"))).unwrap());
    build_into(&root, &from, "v2", &options());
    let to = dir.path().join("to");
    let report = pull(&from, &to, "v2");
    assert!(!report.complete);
    assert!(report.bytes_fetched < 25 * 200_000 + 500_000, "{report:?}");
    assert_eq!(faults(&to, "v2"), [""; 0]);
    let layout = Layout::open(&to).unwrap();
    let error = complete(&layout, &name("v2"), None, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("--from"), "{error:#}");
    let source = Liar::new(&from, Lie::None);
    let report = complete(&layout, &name("v2"), Some(&source), &Silent).unwrap();
    assert!(report.fetched > 0);
    assert_eq!(manifest(&to, "v2"), manifest(&from, "v2"));
    assert_whole(&to);
    // Where the older one is, all of it is.
    let both = dir.path().join("both");
    pull(&from, &both, "v1");
    let report = pull(&from, &both, "v2");
    assert!(report.complete);
    assert_eq!(blobs(&both), blobs(&from));
}

/// An index that leads to an ordinary image and to ours.
#[test]
fn ours_is_found_in_an_index() {
    let dir = scratch();
    let root = dir.path().join("root");
    let from = dir.path().join("from");
    tree(&root, 2);
    build_into(&root, &from, "v1", &options());
    let ours = open(&from, "v1");
    let entry = |digest: &Digest, size: u64, arch: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{digest}"),
            "size": size,
            "platform": { "os": "linux", "architecture": arch },
        })
    };
    let text = br#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:00","size":2},"layers":[]}"#;
    let (ordinary, size) = store(&from, text);
    let mine = (*ours.manifest_digest(), ours.manifest_bytes().len() as u64);
    let here = Platform::here().architecture;
    let list = [
        entry(&ordinary, size, &here),
        entry(&mine.0, mine.1, &here),
        entry(&Digest::from_bytes([1; 32]), 1, "other"),
    ];
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": list });
    struct Index<'a>(&'a Path, Vec<u8>);
    impl Remote for Index<'_> {
        fn name(&self) -> String {
            "an index".into()
        }
        fn manifest(&self, name: &Name) -> puzzlefs::Result<puzzlefs::remote::Document> {
            let text = match name {
                Name::Tag(_) => self.1.clone(),
                Name::Digest(digest) => {
                    fs::read(self.0.join("blobs/sha256").join(digest.to_string()))?
                }
            };
            let (digest, media_type) = (sha256(&[&text]), String::new());
            Ok(puzzlefs::remote::Document {
                digest,
                media_type,
                text,
            })
        }
        fn blob(&self, _: &Digest, _: u64) -> puzzlefs::Result<Box<dyn std::io::Read + Send + '_>> {
            unreachable!()
        }
        fn range(
            &self,
            _: &Digest,
            _: u64,
            _: std::ops::Range<u64>,
        ) -> puzzlefs::Result<puzzlefs::remote::Part<'_>> {
            unreachable!()
        }
    }
    let remote = Index(&from, serde_json::to_vec(&index).unwrap());
    let found = find(&remote, &name("any"), &Platform::here()).unwrap();
    assert_eq!(*found.digest(), mine.0);
    let other: Platform = "linux/none".parse().unwrap();
    let error = find(&remote, &name("any"), &other).err().unwrap();
    assert!(matches!(error, Error::NotFound(_)), "{error:#}");
    // A layout resolves its own indexes.
    let reference = Reference::of_tag(&from, "v1");
    assert_eq!(reference.name, name("v1"));
}
