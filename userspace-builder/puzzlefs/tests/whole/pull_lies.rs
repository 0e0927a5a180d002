// SPDX-License-Identifier: Apache-2.0
//! Pulling from sources that lie, images that lie, and into layouts that are damaged.

use std::fs;
use std::path::Path;

use crate::common::layout::{blobs, packs, store};
use crate::common::pulls::{assert_whole, manifest, name, pull, pull_from, tree, versions};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, open, options, scratch};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::pull::complete::complete;
use puzzlefs::upkeep::gc::gc;
use puzzlefs::Error;
use puzzlefs_format::{Digest, MEDIA_TYPE_PACK};
use serde_json::Value;

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
            manifest["config"]["size"] = (size | (1 << 30)).into()
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
