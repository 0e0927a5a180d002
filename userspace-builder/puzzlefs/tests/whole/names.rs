// SPDX-License-Identifier: Apache-2.0
//! Names of images, and what index.json may say of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::command::{failure, puzzlefs, success, PUZZLEFS};
use crate::common::layout::{edit_index, store};
use crate::common::{noise, open, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::Layout;
use puzzlefs_format::MEDIA_TYPE_PACK;
use serde_json::{json, Value};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

struct Place {
    dir: tempfile::TempDir,
    root: PathBuf,
    layout: PathBuf,
}

impl Place {
    /// A layout with the image `a`, and `b` of another tree.
    fn new() -> Self {
        let dir = scratch();
        let (root, layout) = (dir.path().join("root"), dir.path().join("L"));
        fs::create_dir(&root).unwrap();
        let place = Place { dir, root, layout };
        for tag in ["a", "b"] {
            fs::write(place.root.join("file"), tag.repeat(50_000)).unwrap();
            place.build(&place.image(&format!(":{tag}")));
        }
        place
    }

    fn image(&self, name: &str) -> String {
        format!("{}{name}", self.layout.display())
    }

    fn build(&self, image: &str) {
        success(&puzzlefs(&["build", self.root.to_str().unwrap(), image]));
    }

    fn digest(&self, tag: &str) -> String {
        open(&self.layout, tag).manifest_digest().to_string()
    }

    /// The digest of the image that a name leads to.
    fn inspected(&self, name: &str) -> String {
        let text = success(&puzzlefs(&[
            "inspect",
            "--format",
            "json",
            &self.image(name),
        ]));
        let report: Value = serde_json::from_str(&text).unwrap();
        report["manifest"].as_str().unwrap().to_owned()
    }

    fn refused(&self, args: &[&str], words: &[&str]) {
        let text = failure(&puzzlefs(args));
        for word in words {
            assert!(text.contains(word), "{args:?}: {word} is not in: {text}");
        }
    }

    fn tags(&self) -> Vec<(Option<String>, String)> {
        let args = ["tags", "--format", "json", self.layout.to_str().unwrap()];
        let list: Value = serde_json::from_str(&success(&puzzlefs(&args))).unwrap();
        let tags = list.as_array().unwrap().iter().map(|tag| {
            let name = tag["tag"].as_str().map(str::to_owned);
            (name, tag["kind"].as_str().unwrap().to_owned())
        });
        tags.collect()
    }
}

fn names(layout: &Path) -> Vec<String> {
    let entries = fs::read_dir(layout).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// As skopeo has them, which would find the same images.
#[test]
fn tags_may_have_colons_and_slashes() {
    let place = Place::new();
    for tag in ["debian:12", "repo/name:1.0", "a--b", "x@y"] {
        place.build(&place.image(&format!(":{tag}")));
        assert_eq!(place.inspected(&format!(":{tag}")), place.digest(tag));
    }
    // No directory is made of a part of a name.
    assert_eq!(names(place.dir.path()), ["L", "root"]);
    let new = format!("{}/R:a:b", place.dir.path().display());
    place.build(&new);
    assert_eq!(names(place.dir.path()), ["L", "R", "root"]);
    success(&puzzlefs(&["verify", &new]));
    // One that is there is used, and what skopeo has to take for a layout with that.
    fs::create_dir(place.dir.path().join("S:a")).unwrap();
    place.build(&format!("{}/S:a:b", place.dir.path().display()));
    assert_eq!(names(place.dir.path()), ["L", "R", "S:a", "root"]);
    for bad in ["a..b", "-a", "a-", "a//b", "a b", "a---b", "a/"] {
        let image = place.image(&format!(":{bad}"));
        place.refused(
            &["build", place.root.to_str().unwrap(), &image],
            &["OCI_DIR:TAG"],
        );
        place.refused(&["tag", "--", &place.image(":a"), bad], &["a tag has"]);
    }
}

/// OCI_DIR@sha256:DIGEST is taken by every command, and names entries without a tag.
#[test]
fn a_digest_names_an_image() {
    let place = Place::new();
    let digest = place.digest("a");
    let name = format!("@sha256:{digest}");
    let image = place.image(&name);
    edit_index(&place.layout, |list| {
        list[0].as_object_mut().unwrap().remove("annotations");
    });
    assert_eq!(place.inspected(&name), digest);
    let out = place.dir.path().join("out");
    let (layout, root) = (place.layout.to_str().unwrap(), place.root.to_str().unwrap());
    for args in [
        &["verify", &image][..],
        &["ls", &image],
        &["extract", &image, out.to_str().unwrap()],
        &["du", layout, &name],
        &["unpack", layout, &name],
    ] {
        success(&puzzlefs(args));
    }
    assert_eq!(place.tags()[0], (None, "puzzlefs".into()));
    // It has another manifest since it was unpacked, which stands for the old one.
    assert_ne!(place.inspected(&name), digest);
    let list = success(&puzzlefs(&["tags", layout]));
    let unpacked = list.lines().find(|line| line.contains("(no tag)")).unwrap();
    let unpacked = format!("@{}", unpacked.split(' ').next().unwrap());
    success(&puzzlefs(&[
        "build",
        "--base",
        &unpacked,
        root,
        &place.image(":new"),
    ]));
    success(&puzzlefs(&["repack", layout, &unpacked]));
    success(&puzzlefs(&["tag", &image, "again"]));
    assert_eq!(place.digest("again"), digest);
    success(&puzzlefs(&["rm", &image]));
    place.refused(&["rm", &image], &["has no entry @sha256:"]);
    place.refused(&["build", root, &image], &["name it by a tag"]);
    let none = place.image(&format!("@sha256:{}", "0".repeat(64)));
    place.refused(&["inspect", &none], &["has no manifest @sha256:0000"]);
}

#[test]
fn a_tag_is_given_and_taken() {
    let place = Place::new();
    edit_index(&place.layout, |list| {
        list[0]["platform"] = json!({ "os": "linux" })
    });
    success(&puzzlefs(&["tag", &place.image(":a"), "b"]));
    assert_eq!(place.digest("b"), place.digest("a"));
    assert_eq!(place.tags().len(), 2);
    let text = fs::read_to_string(place.layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        index["manifests"][1]["platform"]["os"], "linux",
        "what others wrote"
    );
    place.refused(&["tag", &place.image(":none"), "c"], &["no tag none"]);
    success(&puzzlefs(&["rm", &place.image(":a")]));
    assert_eq!(place.tags(), [(Some("b".into()), "puzzlefs".into())]);
}

/// Two entries with one tag: they may be for two machines, or a mistake that is not ours to guess.
#[test]
fn a_tag_of_several_manifests() {
    let place = Place::new();
    let (a, b) = (place.digest("a"), place.digest("b"));
    edit_index(&place.layout, |list| {
        list[1]["annotations"][REF_NAME] = "a".into()
    });
    let image = place.image(":a");
    place.refused(&["inspect", &image], &["several images", &a, &b]);
    place.refused(&["tag", &image, "c"], &["several", &a, &b]);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    edit_index(&place.layout, |list| {
        list[0]["platform"] = json!({ "os": "linux", "architecture": "mips" });
        list[1]["platform"] = json!({ "os": "linux", "architecture": arch });
    });
    assert_eq!(place.inspected(":a"), b);
    // The same manifest twice is one.
    edit_index(&place.layout, |list| list[1] = list[0].clone());
    assert_eq!(place.inspected(":a"), a);
    success(&puzzlefs(&["rm", &image]));
    assert_eq!(place.tags(), []);
}

/// Fields that nobody here knows, and entries that are none.
#[test]
fn what_others_have_written_stays() {
    let place = Place::new();
    let path = place.layout.join("index.json");
    let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
    let mut index = read();
    index["annotations"] = json!({ "z": "1", "a": "2", "m": "3" });
    index["unknown"] = json!({ "to us": [1, null] });
    index["subject"] = json!({ "mediaType": "text/plain", "size": 1, "digest": "sha512:00" });
    let foreign = json!({
        "unknown": true,
        "mediaType": MANIFEST,
        "size": 2,
        "digest": format!("sha256:{}", "0".repeat(64)),
        "annotations": { REF_NAME: "foreign", "z": "1", "b": "2" },
        "platform": { "os": "windows", "os.version": "10", "os.features": ["win32k"],
            "architecture": "other" },
    });
    let odd = [
        json!("text"),
        json!({ "size": -1 }),
        json!({ "digest": 1 }),
        foreign,
    ];
    index["manifests"]
        .as_array_mut()
        .unwrap()
        .extend(odd.clone());
    fs::write(&path, index.to_string()).unwrap();

    place.build(&place.image(":a"));
    success(&puzzlefs(&["tag", &place.image(":a"), "c"]));
    success(&puzzlefs(&["rm", &place.image(":b")]));
    let after = read();
    for field in [
        "annotations",
        "unknown",
        "subject",
        "schemaVersion",
        "mediaType",
    ] {
        // Also their order.
        assert_eq!(after[field].to_string(), index[field].to_string());
    }
    let left: Vec<String> = after["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(left[..4], odd.map(|entry| entry.to_string()));
    assert_eq!(left.len(), 6);
    let tags: Vec<_> = place
        .tags()
        .into_iter()
        .map(|(tag, _)| tag.unwrap())
        .collect();
    assert_eq!(tags, ["foreign", "a", "c"]);
}

/// What tools of Go write for an empty list.
#[test]
fn no_manifests_are_none() {
    let place = Place::new();
    let null = r#"{"schemaVersion":2,"manifests":null}"#;
    fs::write(place.layout.join("index.json"), null).unwrap();
    let layout = place.layout.to_str().unwrap();
    place.refused(&["inspect", &place.image(":a")], &["has no tag a"]);
    assert_eq!(place.tags(), []);
    success(&puzzlefs(&["du", layout]));
    place.build(&place.image(":c"));
    assert_eq!(place.tags().len(), 1);
    fs::write(place.layout.join("index.json"), null).unwrap();
    success(&puzzlefs(&["gc", layout]));
}

#[test]
fn tags_of_indexes_and_of_foreign_images() {
    let place = Place::new();
    let (a, b) = (place.digest("a"), place.digest("b"));
    let entry = |media_type: &str, text: &Value, tag: &str| {
        let (digest, size) = store(&place.layout, text.to_string().as_bytes());
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size,
            "annotations": { REF_NAME: tag } })
    };
    let config = json!({ "os": "linux" });
    let config = entry("application/vnd.oci.image.config.v1+json", &config, "");
    let foreign = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config,
        "layers": [] });
    let foreign = entry(MANIFEST, &foreign, "foreign");
    let of = |digest: &str| {
        let size = fs::metadata(place.layout.join("blobs/sha256").join(digest))
            .unwrap()
            .len();
        json!({ "mediaType": MANIFEST, "digest": format!("sha256:{digest}"), "size": size })
    };
    let missing = json!({ "mediaType": MANIFEST, "size": 2,
        "digest": format!("sha256:{}", "0".repeat(64)), "annotations": { REF_NAME: "missing" } });
    let index = |list: Value, tag: &str| {
        let text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list });
        entry(INDEX, &text, tag)
    };
    let one = index(json!([foreign, missing, of(&a)]), "one");
    let nested = index(json!([one]), "nested");
    let two = index(json!([of(&a), of(&b)]), "two");
    let none = index(json!([foreign]), "none");
    let text = json!({ "mediaType": "text/plain", "size": foreign["size"],
        "digest": foreign["digest"], "annotations": { REF_NAME: "text" } });
    edit_index(&place.layout, |list| {
        list.extend([foreign.clone(), missing, one, nested, two, none, text]);
    });
    assert_eq!(place.inspected(":one"), a);
    assert_eq!(place.inspected(":nested"), a);
    let image = |tag: &str| place.image(&format!(":{tag}"));
    place.refused(&["inspect", &image("two")], &["several images", &a, &b]);
    place.refused(
        &["inspect", &image("none")],
        &["image index", "no PuzzleFS image"],
    );
    place.refused(
        &["inspect", &image("foreign")],
        &["no PuzzleFS image", "rootfs"],
    );
    place.refused(&["inspect", &image("missing")], &["copied completely"]);
    place.refused(&["inspect", &image("text")], &["text/plain"]);
    let layout = place.layout.to_str().unwrap();
    place.refused(&["repack", layout, "foreign"], &["no PuzzleFS image"]);
    place.refused(&["repack", layout, "none"], &["no PuzzleFS image"]);
    success(&puzzlefs(&["repack", layout, "a", "one"]));
    let kinds: Vec<String> = place.tags().into_iter().map(|(_, kind)| kind).collect();
    let expected = [
        "puzzlefs", "puzzlefs", "other", "missing", "index", "index", "index", "index",
    ];
    assert_eq!(kinds[..8], expected);
    success(&puzzlefs(&["du", layout]));
}

/// The entry in index.json says the manifest's size, and a wrong one is told.
#[test]
fn the_size_of_a_manifest_counts() {
    let place = Place::new();
    for change in [1, -1] {
        edit_index(&place.layout, |list| {
            let size = open(&place.layout, "a").manifest_bytes().len() as i64;
            list[0]["size"] = (size + change).into();
        });
        place.refused(&["inspect", &place.image(":a")], &["wrong size", "sha256:"]);
        edit_index(&place.layout, |list| {
            let name = list[0]["digest"].as_str().unwrap()[7..].to_owned();
            let path = place.layout.join("blobs/sha256").join(name);
            list[0]["size"] = fs::metadata(path).unwrap().len().into();
        });
    }
    success(&puzzlefs(&["inspect", &place.image(":a")]));
}

/// An image that has no tag yet is garbage to a collection, so it waits for that.
#[test]
fn a_tag_waits_for_a_collection() {
    let place = Place::new();
    let layout = Layout::open(&place.layout).unwrap();
    let digest = open(&place.layout, "a").manifest_digest().to_string();
    let image = place.image(&format!("@sha256:{digest}"));
    success(&puzzlefs(&["rm", &place.image(":a")]));
    let owned = layout.own_blobs(&Silent).unwrap();
    let mut command = Command::new(PUZZLEFS);
    let mut child = command.args(["tag", &image, "again"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    drop(owned);
    assert!(child.wait().unwrap().success());
    assert_eq!(
        open(&place.layout, "again").manifest_digest().to_string(),
        digest
    );
}

/// An index of very many tags fills no terminal.
#[test]
fn some_of_many_tags_are_shown() {
    let place = Place::new();
    edit_index(&place.layout, |list| {
        for number in 0..1000 {
            let mut entry = list[0].clone();
            entry["annotations"][REF_NAME] = format!("many-{number}").into();
            list.push(entry);
        }
    });
    let text = failure(&puzzlefs(&["inspect", &place.image(":none")]));
    assert!(text.contains("many-17 and 982 more"), "{text}");
    assert!(!text.contains("many-18"), "{text}");
}

/// One tag for several images: what repack makes of them, the tag leads to; all else in the index stays.
#[test]
fn images_in_an_index_are_repacked() {
    let place = Place::new();
    let layout = place.layout.to_str().unwrap();
    let at = |tag: &str| place.image(&format!(":{tag}"));
    for tag in ["a", "b"] {
        fs::write(
            place.root.join("own"),
            noise(300_000, u64::from(tag.as_bytes()[0])),
        )
        .unwrap();
        let root = place.root.to_str().unwrap();
        success(&puzzlefs(&["build", "--layout=loose", root, &at(tag)]));
    }
    let (a, b) = (place.inspected(":a"), place.inspected(":b"));
    let of = |digest: &str, os: &str| -> Value {
        let size = fs::metadata(place.layout.join("blobs/sha256").join(digest))
            .unwrap()
            .len();
        json!({ "mediaType": MANIFEST, "digest": format!("sha256:{digest}"), "size": size,
            "platform": { "os": os, "architecture": "amd64" }, "annotations": { "kept": os } })
    };
    let missing =
        json!({ "mediaType": MANIFEST, "size": 2, "digest": format!("sha256:{}", "0".repeat(64)) });
    let write = |list: Value, tag: Option<&str>| -> Value {
        let text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list, "x": 1 })
            .to_string();
        let (digest, size) = store(&place.layout, text.as_bytes());
        let mut entry =
            json!({ "mediaType": INDEX, "size": size, "digest": format!("sha256:{digest}") });
        if let Some(tag) = tag {
            entry["annotations"] = json!({ REF_NAME: tag });
        }
        entry
    };
    let inner = write(json!([of(&b, "plan9")]), None);
    let index = write(json!([missing, of(&a, "linux"), inner]), Some("both"));
    edit_index(&place.layout, |list| {
        *list = vec![index];
    });
    success(&puzzlefs(&["repack", "--gc", layout, "both"]));
    let read = |digest: &Value| -> Value {
        let digest = digest.as_str().unwrap().trim_start_matches("sha256:");
        let text = fs::read(place.layout.join("blobs/sha256").join(digest)).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let top = fs::read(place.layout.join("index.json")).unwrap();
    let top: Value = serde_json::from_slice(&top).unwrap();
    assert_eq!(top["manifests"].as_array().unwrap().len(), 1);
    let index = read(&top["manifests"][0]["digest"]);
    assert_eq!((&index["x"], &index["manifests"][0]), (&json!(1), &missing));
    let inner = read(&index["manifests"][2]["digest"]);
    for (entry, old, kept) in [
        (&index["manifests"][1], &a, "linux"),
        (&inner["manifests"][0], &b, "plan9"),
    ] {
        assert_eq!(entry["annotations"]["kept"], kept);
        assert_ne!(entry["digest"], format!("sha256:{old}"));
        let manifest = read(&entry["digest"]);
        assert_eq!(manifest["layers"][1]["mediaType"], MEDIA_TYPE_PACK);
        let digest = entry["digest"].as_str().unwrap();
        success(&puzzlefs(&["verify", &format!("{layout}@{digest}")]));
        // It may be signed.
        assert!(place.layout.join("blobs/sha256").join(old).exists());
    }
    // The one for this machine is found by the tag.
    assert_eq!(
        format!("sha256:{}", place.inspected(":both")),
        index["manifests"][1]["digest"]
    );
    for args in [
        &["ls", &at("both")][..],
        &["du", layout],
        &["gc", layout],
        &["verify", &at("both")],
    ] {
        success(&puzzlefs(args));
    }
    let said = failure(&puzzlefs(&["repack", layout, "none"]));
    assert!(said.contains("has no tag none; it has: both"), "{said}");
}

/// What an index says of others decides neither how long it takes, nor what becomes of other images.
#[test]
fn indexes_may_say_anything() {
    let place = Place::new();
    let layout = place.layout.to_str().unwrap();
    let write = |list: Value| -> Value {
        let text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list }).to_string();
        let (digest, size) = store(&place.layout, text.as_bytes());
        json!({ "mediaType": INDEX, "size": size, "digest": format!("sha256:{digest}") })
    };
    let a = place.inspected(":a");
    let missing =
        json!({ "mediaType": INDEX, "size": 2, "digest": format!("sha256:{}", "0".repeat(64)) });
    let size = fs::metadata(place.layout.join("blobs/sha256").join(&a))
        .unwrap()
        .len();
    let of = json!({ "mediaType": MANIFEST, "digest": format!("sha256:{a}"), "size": size });
    let mut deep = write(json!([missing, of]));
    for _ in 0..5 {
        deep = write(json!(vec![deep; 1000]));
    }
    let mut bad = write(json!([{ "mediaType": MANIFEST }]));
    for (entry, tag) in [(&mut deep, "deep"), (&mut bad, "bad")] {
        entry["annotations"] = json!({ REF_NAME: tag });
    }
    // And index.json may list the same as often as it likes, by no tag or by many.
    let often = (0..600).map(|number| {
        let mut entry = deep.clone();
        entry["annotations"] = match number % 2 {
            0 => json!({}),
            _ => json!({ REF_NAME: format!("deep{number}") }),
        };
        entry
    });
    let often: Vec<Value> = often.collect();
    edit_index(&place.layout, |list| {
        list.extend(often.into_iter().chain([deep, bad]))
    });
    success(&puzzlefs(&["unpack", layout]));
    assert_ne!(place.inspected(":deep"), a);
    assert_eq!(place.inspected(":deep"), place.digest("a"));
    let b = place.image(":b");
    success(&puzzlefs(&["verify", &b]));
    let said = failure(&puzzlefs(&["unpack", layout, "bad"]));
    assert!(said.contains("no descriptor"), "{said}");
}
