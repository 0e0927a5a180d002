// SPDX-License-Identifier: Apache-2.0
//! Only garbage is collected, at any moment.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::layout::{blobs, edit_index};
use crate::common::{build_into, everything, faults, loose, noise, open, options, scratch};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::{Progress, Silent, Unit};
use puzzlefs::build::{build, Options};
use puzzlefs::layout::manifest::with_layers;
use puzzlefs::layout::Layout;
use puzzlefs::upkeep::gc::{gc, Report};
use serde_json::{json, Value};

fn collect(layout: &Path, dry_run: bool) -> Report {
    gc(&Layout::open(layout).unwrap(), dry_run, &Silent).unwrap()
}

fn refused(layout: &Path, message: &str) {
    let before = blobs(layout);
    let error = gc(&Layout::open(layout).unwrap(), false, &Silent).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("nothing was removed") && text.contains(message),
        "{text}"
    );
    assert_eq!(blobs(layout), before);
}

/// Stores a blob; returns its descriptor.
fn store(layout: &Path, media_type: &str, content: &[u8]) -> Value {
    let (digest, size) = crate::common::layout::store(layout, content);
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

#[test]
fn what_a_tag_named_once_is_removed() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "tag", &options());
    let first = blobs(&layout);
    assert!(collect(&layout, false).removed.is_empty());
    fs::write(root.join("bin/tool"), "another").unwrap();
    build_into(&root, &layout, "other", &loose());
    edit_index(&layout, |list| drop(list.pop()));
    let before = blobs(&layout);
    let plan = collect(&layout, true);
    assert_eq!(blobs(&layout), before);
    let report = collect(&layout, false);
    assert_eq!(report.removed, plan.removed);
    assert_eq!(report.removed.len(), before.len() - first.len());
    assert_eq!(blobs(&layout), first);
    assert_eq!(faults(&layout, "tag"), [""; 0]);
}

/// Blobs of other kinds stay if index.json leads to them, by whatever way.
#[test]
fn other_images_keep_their_blobs() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "tag", &options());
    let oci = |what: &str| format!("application/vnd.oci.image.{what}");
    let config = store(&layout, &oci("config.v1+json"), b"{\"os\":\"linux\"}");
    let layer = store(&layout, &oci("layer.v1.tar+gzip"), b"not even a gzip");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = store(
        &layout,
        &oci("manifest.v1+json"),
        manifest.to_string().as_bytes(),
    );
    let nested = json!({ "schemaVersion": 2, "manifests": [manifest,
        { "mediaType": oci("manifest.v1+json"), "digest": format!("sha256:{}", "0".repeat(64)),
          "size": 1 }] });
    let nested = store(
        &layout,
        &oci("index.v1+json"),
        nested.to_string().as_bytes(),
    );
    let signature = json!({ "schemaVersion": 2, "layers": [], "subject": nested,
        "config": store(&layout, "application/vnd.oci.empty.v1+json", b"{} ") });
    let signature = store(
        &layout,
        &oci("manifest.v1+json"),
        signature.to_string().as_bytes(),
    );
    let text = store(&layout, "application/xml", b"<no JSON>");
    edit_index(&layout, |list| list.extend([signature, text]));
    let kept = blobs(&layout);
    store(&layout, "", b"garbage");
    fs::write(layout.join("blobs/sha256/not-a-digest"), "of another tool").unwrap();
    assert_eq!(
        collect(&layout, false).removed,
        [sha256(&[b"garbage"]).to_string()]
    );
    let mut left = blobs(&layout);
    assert!(left.remove("not-a-digest").is_some());
    assert_eq!(left, kept);
    // All of the first image goes with its entry.
    edit_index(&layout, |list| drop(list.remove(0)));
    collect(&layout, false);
    assert_eq!(blobs(&layout).len(), 8);
}

/// What cannot be read may lead to anything.
#[test]
fn nothing_is_removed_in_doubt() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(100_000, 1)).unwrap();
    build_into(&root, &layout, "tag", &options());
    store(&layout, "", b"garbage");
    let path = layout.join("blobs/sha256");
    let path = path.join(open(&layout, "tag").manifest_digest().to_string());
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[1..]).unwrap();
    refused(&layout, path.file_name().unwrap().to_str().unwrap());
    fs::write(&path, &good).unwrap();
    let index = layout.join("index.json");
    let text = fs::read(&index).unwrap();
    let mut nested = store(
        &layout,
        "application/vnd.oci.image.index.v1+json",
        b"no JSON",
    );
    edit_index(&layout, |list| list.push(nested.clone()));
    refused(&layout, "parsing sha256:");
    // It says itself that it is nothing to be parsed.
    nested["mediaType"] = "text/plain".into();
    edit_index_with(&index, &text, |list| list.push(nested));
    collect(&layout, true);
    for bad in ["", "{}", r#"{"manifests":[{}]}"#] {
        fs::write(&index, bad).unwrap();
        let layout = Layout::open(&layout).unwrap();
        gc(&layout, false, &Silent).unwrap_err();
    }
    edit_index_with(&index, &text, |list| list[0]["digest"] = "sha512:00".into());
    refused(&layout, "sha512:00");
    fs::remove_file(&index).unwrap();
    refused(&layout, "no index.json");
    fs::write(&index, &text).unwrap();
    assert_eq!(collect(&layout, false).removed.len(), 2);
}

fn edit_index_with(index: &Path, text: &[u8], change: impl FnOnce(&mut Vec<Value>)) {
    fs::write(index, text).unwrap();
    edit_index(index.parent().unwrap(), change);
}

/// Upstream's manifests of deltas do not list the chunks of the base.
#[test]
fn chunks_that_a_manifest_does_not_list_stay() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "base", &loose());
    fs::write(root.join("new"), "new").unwrap();
    let delta = Options {
        base: Some("base".parse().unwrap()),
        ..loose()
    };
    build_into(&root, &layout, "delta", &delta);
    let text = with_layers(open(&layout, "delta").manifest_bytes(), &[]).unwrap();
    let manifest = store(&layout, "application/vnd.oci.image.manifest.v1+json", &text);
    edit_index(&layout, |list| *list = vec![manifest]);
    edit_index(&layout, |list| {
        list[0]["annotations"] = json!({ "org.opencontainers.image.ref.name": "delta" })
    });
    // Nobody can read what it needs, but it may be whole again.
    let rootfs = layout.join("blobs/sha256");
    let rootfs = rootfs.join(open(&layout, "delta").rootfs_digest().to_string());
    let elsewhere = dir.path().join("rootfs");
    fs::rename(&rootfs, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &rootfs).unwrap();
    refused(&layout, "symbolic link");
    fs::rename(&elsewhere, &rootfs).unwrap();

    collect(&layout, false);
    let report = puzzlefs::verify::verify(&open(&layout, "delta"), &Silent).unwrap();
    assert_eq!(report.errors, [""; 0]);
}

/// Starts a collection once all chunks have been stored.
struct Collector<'a> {
    layout: &'a Path,
    gc: Mutex<Option<JoinHandle<Report>>>,
}

impl Progress for Collector<'_> {
    fn phase(&self, name: &str, _: u64, _: Unit) {
        if name == "writing metadata" {
            let layout = self.layout.to_owned();
            let gc = thread::spawn(move || collect(&layout, false));
            // Time enough to do harm.
            thread::sleep(Duration::from_millis(300));
            assert!(!gc.is_finished());
            *self.gc.lock().unwrap() = Some(gc);
        }
    }
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

/// A build may rely on chunks that nothing leads to when it finds them.
#[test]
fn a_build_keeps_what_it_relies_on() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    for options in [loose(), options()] {
        build_into(&root, &layout, "tag", &options);
        let open_layout = Layout::open(&layout).unwrap();
        edit_index(&layout, Vec::clear);
        let collector = Collector {
            layout: &layout,
            gc: Mutex::default(),
        };
        build(&root, &open_layout, "new", &options, &collector).unwrap();
        let gc = collector.gc.into_inner().unwrap().unwrap();
        gc.join().unwrap();
        assert_eq!(faults(&layout, "new"), [""; 0]);
    }
}

/// The command itself, again and again while another one builds.
#[test]
fn gc_waits_for_a_running_build() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(300_000, 1)).unwrap();
    build_into(&root, &layout, "tag", &options());
    let text: Vec<u8> = noise(8 << 20, 2).iter().map(|b| b & 15).collect();
    fs::write(root.join("big"), text).unwrap();
    let puzzlefs = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_puzzlefs"));
        command.args(args).stdout(Stdio::null());
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command.spawn().unwrap()
    };
    let (root, image) = (root.to_str().unwrap(), format!("{}:tag", layout.display()));
    let mut build = puzzlefs(&["build", "--compression", "zstd:19", root, &image]);
    let begun = Instant::now();
    let staging = |entry: fs::DirEntry| entry.file_name().as_encoded_bytes()[0] == b'.';
    while !fs::read_dir(&layout).unwrap().any(|e| staging(e.unwrap())) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no build begins");
        assert!(build.try_wait().unwrap().is_none());
    }
    let mut collections = 0;
    while build.try_wait().unwrap().is_none() {
        let mut gc = puzzlefs(&["gc", layout.to_str().unwrap()]);
        assert!(gc.wait().unwrap().success());
        collections += 1;
    }
    assert!(build.wait().unwrap().success());
    // It waited: there was time for many.
    assert!((1..5).contains(&collections), "{collections}");
    assert_eq!(faults(&layout, "tag"), [""; 0]);
    assert!(open(&layout, "tag").lookup(b"big").is_ok());
}
