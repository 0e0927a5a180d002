// SPDX-License-Identifier: Apache-2.0
//! Pulling: what comes is what the source has, and only what is missing comes.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::layout::{blobs, packs, store};
use common::remote::{Liar, Lie};
use common::{build_into, faults, loose, noise, open, options, scratch, snapshot};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::reference::{Name, Reference};
use puzzlefs::layout::Layout;
use puzzlefs::pull::complete::complete;
use puzzlefs::pull::{find, Report};
use puzzlefs::remote::Remote;
use puzzlefs::source::Platform;
use puzzlefs::upkeep::{convert, gc::gc, remove::remove};
use puzzlefs::verify::verify;
use puzzlefs::Error;
use puzzlefs_format::{Digest, MEDIA_TYPE_PACK};
use serde_json::Value;

fn name(tag: &str) -> Name {
    Name::Tag(tag.into())
}

fn pull_from(remote: &dyn Remote, what: &Name, dir: &Path, tag: &str) -> puzzlefs::Result<Report> {
    let found = find(remote, what, &Platform::here())?;
    let layout = Layout::open_or_create(dir)?;
    found.pull(&layout, tag, &Silent)
}

fn pull(from: &Path, dir: &Path, tag: &str) -> Report {
    pull_from(&Liar::new(from, Lie::None), &name(tag), dir, tag).unwrap()
}

/// A tree of `count` files of 200,000 bytes that do not compress, and small ones.
fn tree(root: &Path, count: u64) {
    fs::create_dir_all(root.join("small")).unwrap();
    for number in 0..count {
        fs::write(root.join(format!("{number:03}")), noise(200_000, number)).unwrap();
    }
    for number in 0..200 {
        let text = format!("small {number} ").repeat(100);
        fs::write(root.join(format!("small/{number}")), text).unwrap();
    }
}

/// Two versions of a tree, each built in a layout of its own: `one:v1` and `two:v2`. Of `count` files
/// every tenth differs.
fn versions(dir: &Path, count: u64) -> (PathBuf, PathBuf) {
    let root = dir.join("root");
    tree(&root, count);
    build_into(&root, &dir.join("one"), "v1", &options());
    for number in (0..count).step_by(10) {
        fs::write(
            root.join(format!("{number:03}")),
            noise(200_000, number + 1_000),
        )
        .unwrap();
    }
    build_into(&root, &dir.join("two"), "v2", &options());
    (dir.join("one"), dir.join("two"))
}

fn manifest(dir: &Path, tag: &str) -> String {
    open(dir, tag).manifest_digest().to_string()
}

fn assert_same_files(dir: &Path, one: (&Path, &str), two: (&Path, &str)) {
    for (number, (layout, tag)) in [one, two].into_iter().enumerate() {
        let to = dir.join(format!("out{number}"));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to).unwrap();
        puzzlefs::extract::extract(&open(layout, tag), &to, &Silent).unwrap();
    }
    assert_eq!(snapshot(&dir.join("out0")), snapshot(&dir.join("out1")));
}

/// All blobs have the content that their names say, and no chunk is in two packs.
fn assert_whole(layout: &Path) {
    for name in blobs(layout).into_keys() {
        let content = fs::read(layout.join("blobs/sha256").join(&name)).unwrap();
        assert_eq!(sha256(&[&content]).to_string(), name);
    }
}

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

/// No lie makes a layout that is wrong.
#[test]
fn a_source_that_lies() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 50);
    let base = dir.path().join("base");
    pull(&one, &base, "v1");
    for (has_base, later) in [(false, false), (false, true), (true, false), (true, true)] {
        for (lie, succeeds) in [
            (Lie::WrongByte, false),
            (Lie::Short, false),
            (Lie::Endless, true),
            (Lie::Whole, true),
            (Lie::WholeLater, true),
            (Lie::WholeAsRange, false),
            (Lie::Shifted, false),
        ] {
            let to = dir.path().join(format!("{lie:?}{has_base}{later}"));
            if has_base {
                let copied = std::process::Command::new("cp")
                    .arg("-r")
                    .args([&base, &to])
                    .status();
                assert!(copied.unwrap().success());
            }
            let mut liar = Liar::new(&two, lie);
            liar.later = later;
            let pulled = pull_from(&liar, &name("v2"), &to, "v2");
            // Whole packs come by no range.
            let succeeds =
                succeeds || later && !has_base && matches!(lie, Lie::WholeAsRange | Lie::Shifted);
            assert_eq!(
                pulled.is_ok(),
                succeeds,
                "{lie:?} {has_base} {later}: {pulled:?}"
            );
            assert_whole(&to);
            if let Err(error) = pulled {
                assert!(Layout::open(&to).unwrap().resolve(&name("v2")).is_err());
                let is_error = matches!(error, Error::Damaged(_) | Error::Trouble(_));
                assert!(is_error, "{lie:?}: {error:#}");
            }
            // The next one goes on.
            pull(&two, &to, "v2");
            assert_eq!(faults(&to, "v2"), [""; 0]);
            let layout = Layout::open(&to).unwrap();
            complete(&layout, &name("v2"), None, &Silent).unwrap();
            assert_eq!(manifest(&to, "v2"), manifest(&two, "v2"));
        }
    }
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let dir = scratch();
    let root = dir.path().join("root");
    let from = dir.path().join("from");
    tree(&root, 1);
    build_into(&root, &from, "v1", &options());
    let digest = Name::Digest(*open(&from, "v1").manifest_digest());
    let to = dir.path().join("to");
    let liar = Liar::new(&from, Lie::OtherManifest);
    for what in [&digest, &name("v1")] {
        let error = pull_from(&liar, what, &to, "v1").unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error:#}");
        assert!(!to.exists());
    }
    let none = Name::Digest(Digest::from_bytes([7; 32]));
    let error = pull_from(&Liar::new(&from, Lie::None), &none, &to, "v1").unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:#}");
    assert!(!to.exists());
    pull_from(&Liar::new(&from, Lie::None), &digest, &to, "v1").unwrap();
    assert_eq!(blobs(&from), blobs(&to));
}

/// Changes the first data pack of `from:v1` by `change`, and the manifest so that it lists that under its new
/// digest as `bad`.
fn with_pack(from: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let pack = *packs(from, "v1").last().unwrap();
    let mut bytes = fs::read(from.join("blobs/sha256").join(pack.to_string())).unwrap();
    change(&mut bytes);
    let (changed, size) = store(from, &bytes);
    with_manifest(from, |manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        let layer = layers
            .iter_mut()
            .find(|layer| layer["digest"] == format!("sha256:{pack}"));
        let layer = layer.unwrap();
        layer["digest"] = format!("sha256:{changed}").into();
        layer["size"] = size.into();
        layer.as_object_mut().unwrap().remove("annotations");
    });
}

fn with_manifest(from: &Path, change: impl FnOnce(&mut Value)) {
    let image = open(from, "v1");
    let mut value: Value = serde_json::from_slice(image.manifest_bytes()).unwrap();
    change(&mut value);
    let (digest, size) = store(from, &serde_json::to_vec(&value).unwrap());
    Layout::open(from)
        .unwrap()
        .set_tag("bad", &digest, size)
        .unwrap();
}

/// The index of a pack of `bytes`: where it begins, and how many entries it has.
fn index(bytes: &[u8]) -> (usize, usize) {
    let end = bytes.len() - 8;
    let count = u32::from_le_bytes(*bytes[..end + 4].last_chunk().unwrap()) as usize;
    (end - 40 * count, count)
}

#[test]
fn an_image_that_lies() {
    let dir = scratch();
    let root = dir.path().join("root");
    let from = dir.path().join("from");
    tree(&root, 20);
    build_into(&root, &from, "v1", &options());
    let set = |bytes: &mut Vec<u8>, at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    let refused = |what: &str| {
        for has_some in [false, true] {
            let to = dir.path().join("to");
            let _ = fs::remove_dir_all(&to);
            if has_some {
                // So that single chunks are asked for.
                fs::create_dir(dir.path().join("some")).unwrap();
                fs::copy(root.join("003"), dir.path().join("some/003")).unwrap();
                build_into(&dir.path().join("some"), &to, "some", &options());
                fs::remove_dir_all(dir.path().join("some")).unwrap();
            }
            let before = if has_some {
                blobs(&to)
            } else {
                Default::default()
            };
            let error = pull_from(&Liar::new(&from, Lie::None), &name("bad"), &to, "bad");
            let error = error.expect_err(what);
            let is_damage = matches!(error, Error::Damaged(_) | Error::Refused(_));
            assert!(is_damage, "{what}: {error:#}");
            if to.exists() {
                assert_whole(&to);
                assert!(Layout::open(&to).unwrap().resolve(&name("bad")).is_err());
                let there = blobs(&to);
                assert!(before.keys().all(|blob| there.contains_key(blob)));
            }
        }
    };
    with_pack(&from, |bytes| {
        let (start, _) = index(bytes);
        let second = u32::from_le_bytes(*bytes[start + 72..].first_chunk().unwrap());
        set(bytes, start + 32, second);
    });
    refused("two chunks at one place");
    with_pack(&from, |bytes| {
        let (start, _) = index(bytes);
        set(bytes, start + 32, u32::MAX);
    });
    refused("a chunk behind the end");
    with_pack(&from, |bytes| {
        let end = bytes.len() - 8;
        set(bytes, end, u32::MAX);
    });
    refused("2^32 chunks");
    with_pack(&from, |bytes| {
        let (start, count) = index(bytes);
        assert!(count > 1);
        let (first, second) = bytes[start..start + 80].split_at(40);
        let swapped = [second, first].concat();
        bytes[start..start + 80].copy_from_slice(&swapped);
    });
    refused("an index out of order");
    with_pack(&from, |bytes| bytes[100] ^= 1);
    refused("a chunk that is another");
    with_pack(&from, |bytes| bytes.truncate(7));
    refused("no trailer");
    let size_of = |media_type: &'static str, size: u64| {
        with_manifest(&from, |manifest| {
            let layers = manifest["layers"].as_array_mut().unwrap();
            let layer = layers
                .iter_mut()
                .find(|layer| layer["mediaType"] == media_type);
            layer.unwrap()["size"] = size.into();
        });
    };
    for size in [0, 1 << 32, 1 << 40, u64::MAX] {
        size_of(MEDIA_TYPE_PACK, size);
        refused("a pack of another size");
        size_of("application/vnd.puzzlefs.image.rootfs.v1", size);
        refused("a Rootfs of another size");
        with_manifest(&from, |manifest| {
            manifest["config"]["size"] = (size | 1 << 30).into()
        });
        refused("a config of another size");
    }
    with_manifest(&from, |manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        let mut pack = layers.last().unwrap().clone();
        for number in 0..5000 {
            pack["digest"] =
                format!("sha256:{}", sha256(&[&[number as u8, (number >> 8) as u8]])).into();
            layers.push(pack.clone());
        }
    });
    refused("5000 packs");
    with_manifest(&from, |manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        layers.retain(|layer| layer["mediaType"] != MEDIA_TYPE_PACK);
    });
    refused("no packs");
    with_manifest(&from, |manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        let pack = layers.last_mut().unwrap();
        pack["annotations"]["io.puzzlefsoci.puzzlefs.fs_verity"] = "0".repeat(64).into();
    });
    let digests = "another fs-verity digest";
    let error = pull_from(
        &Liar::new(&from, Lie::None),
        &name("bad"),
        &dir.path().join("a"),
        "bad",
    );
    assert!(
        matches!(error, Err(Error::Damaged(_))),
        "{digests}: {error:?}"
    );
    // It shows when the pack is there.
    let some = dir.path().join("some");
    fs::create_dir(&some).unwrap();
    fs::copy(root.join("003"), some.join("003")).unwrap();
    build_into(&some, &dir.path().join("b"), "some", &options());
    let report = pull(&from, &dir.path().join("b"), "bad");
    assert!(!report.complete);
    let layout = Layout::open(&dir.path().join("b")).unwrap();
    let error = complete(&layout, &name("bad"), None, &Silent);
    assert!(
        matches!(error, Err(Error::Damaged(_))),
        "{digests}: {error:?}"
    );
}

/// A chunk that the layout says to have is looked at before it is relied on.
#[test]
fn damaged_packs_are_not_believed() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 30);
    let to = dir.path().join("to");
    pull(&one, &to, "v1");
    for pack in packs(&to, "v1") {
        let path = to.join("blobs/sha256").join(pack.to_string());
        let mut bytes = fs::read(&path).unwrap();
        bytes[500] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    pull(&two, &to, "v2");
    assert_eq!(faults(&to, "v2"), [""; 0]);
    // A pull of the same image mends it.
    pull(&one, &to, "v1");
    assert_eq!(faults(&to, "v1"), [""; 0]);
    gc(&Layout::open(&to).unwrap(), false, &Silent).unwrap();
    assert_whole(&to);
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
