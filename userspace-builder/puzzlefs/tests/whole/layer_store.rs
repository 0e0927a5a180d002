// SPDX-License-Identifier: Apache-2.0
//! The additional layer store as containers/storage sees it, in files. Images are mounted by nobody here: a file says that one is
//! (case 62 has podman and the kernel).

use std::fs;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::common::containerd::Fake;
use puzzlefs::base::digest::sha256;
use puzzlefs::layer_store::{self, LayerStore};
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::stand_in::{StandIn, LABEL, TOC};
use puzzlefs::remote::{Document, Part, Remote};
use puzzlefs::source::Platform;
use puzzlefs::Error;
use puzzlefs_format::Digest;
use serde_json::{json, Value};

struct Place {
    dir: tempfile::TempDir,
    images: Fake,
}

impl Place {
    fn new() -> Self {
        Place {
            dir: crate::common::scratch(),
            images: Fake::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("layers")
    }

    fn open(&self) -> LayerStore {
        let mounts = self.dir.path().join("run");
        LayerStore::open(&self.path(), &mounts, Box::new(self.images.clone())).unwrap()
    }

    /// What containers/storage would find.
    fn layer(&self, image: &StandIn) -> PathBuf {
        self.path().join(format!("sha256:{}", image.digest()))
    }
}

fn image(number: u8, from: &str) -> StandIn {
    StandIn::new(&Digest::from_bytes([number; 32]), from).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Of `path` and what is below it, without files that are only locked.
fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
    names.sort();
    names
}

#[test]
fn a_layer_is_what_podman_asks_for() {
    let place = Place::new();
    let web = image(7, "docker://h.example/team/web");
    let layer = place.layer(&web);
    let store = place.open();
    store
        .add(&web, "docker://h.example/team/web:1", &[])
        .unwrap();
    assert_eq!(
        names(&layer),
        ["blob", "diff", "info", "names", "stand-in", "use"]
    );
    assert_eq!((mode(&place.path()), mode(&layer)), (0o700, 0o700));
    // The record is of the bytes of the layer.
    let blob = fs::read(layer.join("stand-in")).unwrap();
    let digest = format!("sha256:{}", sha256(&[&blob]));
    assert_eq!(layer.file_name().unwrap(), &*digest);
    let info: Value = serde_json::from_slice(&fs::read(layer.join("info")).unwrap()).unwrap();
    for (key, wanted) in [
        ("toc-digest", json!(digest)),
        ("diff-digest", json!(digest)),
        ("diff-size", json!(blob.len())),
        ("compressed-size", json!(blob.len())),
    ] {
        assert_eq!(info[key], wanted, "{key}");
    }
    // It is there, and nobody can copy it.
    assert!(layer.join("blob").exists());
    let read = fs::read(layer.join("blob")).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::IsADirectory);
    // As os.Create does it: that there is no such directory is what is to be heard.
    let made = fs::File::create(layer.join("use")).unwrap_err();
    assert_eq!(made.kind(), ErrorKind::NotFound);
    assert!(layer.join("diff/mounted").exists());
    assert!(fs::remove_dir(&layer).is_err());

    // What is not mounted is not there, and it is mounted again.
    let mounted = fs::read_link(layer.join("diff")).unwrap();
    drop(store);
    fs::remove_file(mounted.join("mounted")).unwrap();
    fs::remove_dir(mounted.with_extension("image")).unwrap();
    assert!(!layer.join("diff").exists());
    let store = place.open();
    let layers = store.layers().unwrap();
    let found = layers.values().next().unwrap().as_ref().unwrap();
    assert!(!store.is_mounted(found).unwrap());
    store.mount(found).unwrap();
    assert!(store.is_mounted(found).unwrap() && layer.join("diff/mounted").exists());
}

#[test]
fn a_layer_stays_while_a_name_leads_to_it() {
    let place = Place::new();
    let (old, new) = (
        image(1, "docker://h.example/a"),
        image(2, "docker://h.example/a"),
    );
    // The same image, elsewhere.
    let other = image(2, "docker://h.example/b");
    let store = place.open();
    for (image, name) in [
        (&old, "docker://h.example/a:1"),
        (&old, "docker://h.example/a:latest"),
        (&new, "docker://h.example/a:2"),
        (&new, "docker://h.example/a:latest"),
        (&other, "docker://h.example/b:2"),
        (&other, "docker://h.example/b:2"),
    ] {
        store.add(image, name, &[]).unwrap();
    }
    let names_of = |image: &StandIn| {
        let layer = store.layers().unwrap().remove(&image.digest());
        layer.unwrap().unwrap().names
    };
    assert_eq!(names_of(&old), ["docker://h.example/a:1"]);
    assert_eq!(names_of(&new).len(), 2);
    assert_eq!(names_of(&other).len(), 1);

    let kept = || place.images.kept.lock().unwrap().len();
    let left = store.remove("docker://h.example/a:2").unwrap();
    assert_eq!(left, ["docker://h.example/a:latest"]);
    assert!(place.layer(&new).join("diff/mounted").exists());
    let left = store.remove("docker://h.example/a:latest").unwrap();
    assert!(left.is_empty() && !place.layer(&new).exists());
    // The other layer has the same image.
    assert_eq!(kept(), 2);
    store.remove("docker://h.example/b:2").unwrap();
    assert_eq!(kept(), 1);
    // By the digest, whatever it is called.
    store.add(&old, "docker://h.example/a:3", &[]).unwrap();
    store.remove(&format!("sha256:{}", old.digest())).unwrap();
    assert_eq!((kept(), names(&place.path())), (0, Vec::new()));
    let mounts = fs::read_dir(place.dir.path().join("run")).unwrap().next();
    assert_eq!(names(&mounts.unwrap().unwrap().path()), [""; 0]);
    let error = store.remove("docker://h.example/a:1").err().unwrap();
    assert!(matches!(error, Error::NotFound(_)), "{error:#}");
}

#[test]
fn what_was_interrupted_is_removed() {
    let place = Place::new();
    let web = image(7, "docker://h.example/web");
    place.images.is_down.store(true, Ordering::Relaxed);
    let store = place.open();
    assert!(store.add(&web, "docker://h.example/web:1", &[]).is_err());
    assert_eq!(names(&place.path()), [""; 0]);
    place.images.is_down.store(false, Ordering::Relaxed);
    store.add(&web, "docker://h.example/web:1", &[]).unwrap();
    drop(store);
    // Half removed, with the image mounted; half made; and what is somebody else's.
    fs::rename(
        place.layer(&web),
        place.path().join(format!(".{}", web.digest())),
    )
    .unwrap();
    let half = place.path().join(format!(".{}", sha256(&[b"x"])));
    fs::create_dir(&half).unwrap();
    fs::write(half.join("blob"), "ha").unwrap();
    fs::write(place.path().join("README"), "theirs").unwrap();
    let store = place.open();
    assert_eq!(names(&place.path()), ["README"]);
    assert!(store.layers().unwrap().is_empty());
    assert!(place.images.kept.lock().unwrap().is_empty());
}

#[test]
fn a_layer_that_is_damaged_keeps_nobody_from_the_others() {
    let place = Place::new();
    let (web, db) = (
        image(7, "docker://h.example/web"),
        image(8, "docker://h.example/db"),
    );
    let store = place.open();
    for (image, name) in [
        (&web, "docker://h.example/web:1"),
        (&db, "docker://h.example/db:1"),
    ] {
        store.add(image, name, &[]).unwrap();
    }
    drop(store);
    let damage = || fs::write(place.layer(&web).join("stand-in"), db.layer()).unwrap();
    let kept = || place.images.kept.lock().unwrap().len();
    damage();
    let store = place.open();
    let layers = store.layers().unwrap();
    let error = format!("{:#}", layers[&web.digest()].as_ref().unwrap_err());
    assert!(error.contains("another digest"), "{error}");
    assert!(layers[&db.digest()].is_ok());
    let failures = store.restore().unwrap();
    assert_eq!(failures.len(), 1, "{failures:?}");
    // Its image may be any that is kept.
    store.remove("docker://h.example/db:1").unwrap();
    assert_eq!(kept(), 2);
    assert!(store.remove("docker://h.example/web:1").is_err());
    store.remove(&format!("sha256:{}", web.digest())).unwrap();
    assert_eq!((kept(), names(&place.path())), (0, Vec::new()));
    // Prepared again, it is whole again.
    store.add(&web, "docker://h.example/web:1", &[]).unwrap();
    damage();
    store.add(&web, "docker://h.example/web:2", &[]).unwrap();
    let layer = store.layers().unwrap().remove(&web.digest());
    assert_eq!(layer.unwrap().unwrap().names, ["docker://h.example/web:2"]);
}

#[test]
fn a_store_is_where_podman_can_be_told_and_nobody_else_writes() {
    let place = Place::new();
    let open = |path: PathBuf| {
        let mounts = place.dir.path().join("run");
        LayerStore::open(&path, &mounts, Box::new(place.images.clone()))
    };
    for bad in ["a:b", "a,b", "a\"b", "a\nb"] {
        let error = open(place.dir.path().join(bad)).err().unwrap();
        assert!(matches!(error, Error::Refused(_)), "{bad:?}: {error:#}");
    }
    let shared = place.dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let error = open(shared).err().unwrap();
    assert!(
        format!("{error:#}").contains("others may write"),
        "{error:#}"
    );
}

/// A registry of manifests.
struct Manifests(Vec<(Name, Vec<u8>)>);

impl Remote for Manifests {
    fn name(&self) -> String {
        "docker://h.example/web".into()
    }
    fn manifest(&self, name: &Name) -> puzzlefs::Result<Document> {
        let found = self.0.iter().find(|(it, _)| it == name);
        let Some((_, text)) = found else {
            return Err(std::io::Error::from(ErrorKind::NotFound).into());
        };
        Ok(Document {
            digest: sha256(&[text]),
            media_type: String::new(),
            text: text.clone(),
        })
    }
    fn blob(&self, _: &Digest, _: u64) -> puzzlefs::Result<Box<dyn Read + Send + '_>> {
        unreachable!("no blob need be fetched")
    }
    fn range(&self, _: &Digest, _: u64, _: Range<u64>) -> puzzlefs::Result<Part<'_>> {
        unreachable!("no blob need be fetched")
    }
}

#[test]
fn the_stand_in_of_the_platform_is_found() {
    let web = image(7, "docker://h.example/web");
    let text = web.manifest_with(&web.config(None).unwrap()).unwrap();
    let other = image(8, "docker://h.example/web");
    let foreign = other.manifest_with(&other.config(None).unwrap()).unwrap();
    let plain = br#"{"schemaVersion":2,"layers":[{"digest":"sha256:0"}]}"#.to_vec();
    let changed = |key: &str, value: Value| {
        let mut manifest: Value = serde_json::from_slice(&text).unwrap();
        match key {
            "digest" => manifest["layers"][0][key] = value,
            _ => manifest["layers"][0]["annotations"][key] = value,
        }
        serde_json::to_vec(&manifest).unwrap()
    };
    let find = |first: &[u8], second: &[u8]| {
        let here = serde_json::to_value(Platform::here()).unwrap();
        let entry = |text: &[u8], platform: Value| json!({ "digest": format!("sha256:{}", sha256(&[text])), "platform": platform });
        let index = json!({ "manifests": [
            entry(&foreign, json!({ "os": "plan9", "architecture": "vax" })), entry(first, here.clone()), json!(5), entry(second, here)]});
        let all = [&foreign[..], first, second];
        let mut manifests = all
            .map(|text| (Name::Digest(sha256(&[text])), text.to_vec()))
            .to_vec();
        manifests.push((Name::Tag("1".into()), serde_json::to_vec(&index).unwrap()));
        layer_store::find(
            &Manifests(manifests),
            &Name::Tag("1".into()),
            &Platform::here(),
        )
    };
    assert_eq!(find(&text, &plain).unwrap(), web);
    assert_eq!(find(&plain, &text).unwrap(), web);
    // Of which podman would ask for another layer, or for none.
    let error = find(&changed(TOC, json!("sha256:0")), &plain).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:#}");
    for bad in [
        changed("digest", json!(format!("sha256:{}", other.digest()))),
        changed(LABEL, json!(other.text)),
        changed(LABEL, json!("{}")),
        plain.clone(),
    ] {
        let error = find(&bad, &plain).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error:#}");
    }
    let alone = Manifests(vec![(Name::Tag("1".into()), text)]);
    let found = layer_store::find(&alone, &Name::Tag("1".into()), &Platform::here());
    assert_eq!(found.unwrap(), web);
}
