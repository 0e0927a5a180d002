// SPDX-License-Identifier: Apache-2.0
//! Damage is found and named; what cannot be built says why and leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{build_into, everything, faults, noise, open, options, scratch};
use puzzlefs::base::progress::{Progress, Silent, Unit};
use puzzlefs::build::build;
use puzzlefs::layout::Layout;

fn small(root: &Path) {
    fs::create_dir(root).unwrap();
    fs::write(root.join("file"), noise(100_000, 1)).unwrap();
    fs::write(root.join("text"), "text ".repeat(50_000)).unwrap();
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|e| e.unwrap().path()).collect()
}

/// Each blob in turn is changed, cut, and taken away: verify (or opening) names it.
#[test]
fn any_damaged_blob_is_named() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    small(&root);
    build_into(&root, &layout, "tag", &options());
    assert_eq!(faults(&layout, "tag"), [""; 0]);
    for path in files(&layout.join("blobs/sha256")) {
        let digest = path.file_name().unwrap().to_str().unwrap();
        let good = fs::read(&path).unwrap();
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        let cut = good[..good.len() - 1].to_vec();
        for bad in [Some(changed), Some(cut), None] {
            match &bad {
                Some(bad) => fs::write(&path, bad).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let reference = format!("{}:tag", layout.display()).parse().unwrap();
            let found = match puzzlefs::image::Image::open(&reference) {
                Ok(image) => puzzlefs::verify::verify(&image, &Silent)
                    .unwrap()
                    .errors
                    .join("\n"),
                Err(error) => format!("{error:#}"),
            };
            assert!(found.contains(digest), "{digest} is not in: {found}");
            fs::write(&path, &good).unwrap();
        }
    }
    assert_eq!(faults(&layout, "tag"), [""; 0]);
}

/// A blob of the wrong size, as a crash of another tool leaves it, is replaced.
#[test]
fn a_build_repairs_a_cut_blob() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    small(&root);
    build_into(&root, &layout, "tag", &options());
    for path in files(&layout.join("blobs/sha256")) {
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1)
            .unwrap();
    }
    build_into(&root, &layout, "tag", &options());
    assert_eq!(faults(&layout, "tag"), [""; 0]);
}

/// Changes the tree once it has been scanned.
struct Meddler<F>(F);

impl<F: Fn() + Sync> Progress for Meddler<F> {
    fn phase(&self, name: &str, _: u64, _: Unit) {
        if name == "storing" {
            self.0();
        }
    }
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

/// Changes the tree once the first chunk has been stored.
struct Latecomer<F> {
    change: F,
    storing: AtomicBool,
}

impl<F: Fn() + Sync> Progress for Latecomer<F> {
    fn phase(&self, name: &str, _: u64, _: Unit) {
        self.storing.store(name == "storing", Ordering::Relaxed);
    }
    fn advance(&self, _: u64) {
        if self.storing.swap(false, Ordering::Relaxed) {
            (self.change)();
        }
    }
    fn note(&self, _: &str) {}
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    let file = root.join("file");
    fs::write(&file, noise(16 << 20, 1)).unwrap();
    let change = || {
        // In place, and in what has been read already.
        let file = fs::File::options().write(true).open(&file).unwrap();
        file.write_at(b"changed", 0).unwrap();
    };
    let storing = AtomicBool::new(false);
    let layout = Layout::open_or_create(&layout).unwrap();
    let error = build(
        &root,
        &layout,
        "tag",
        &options(),
        &Latecomer { change, storing },
    )
    .unwrap_err();
    assert!(
        format!("{error:#}").contains("changed during the build"),
        "{error:#}"
    );
}

#[test]
fn a_file_that_changes_meanwhile_is_named() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    small(&root);
    let file = root.join("file");
    build_into(&root, &layout, "tag", &options());
    let before = files(&layout.join("blobs/sha256"));
    let index = fs::read(layout.join("index.json")).unwrap();
    let changes: [&(dyn Fn() + Sync); 4] = [
        &|| fs::write(&file, noise(100_000, 2)).unwrap(),
        &|| fs::write(&file, "shorter").unwrap(),
        &|| fs::remove_file(&file).unwrap(),
        &|| {
            fs::remove_file(&file).unwrap();
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, &file, kind, mode, 0).unwrap()
        },
    ];
    for change in changes {
        // Whatever it has become.
        fs::remove_file(&file).unwrap_or_default();
        fs::write(&file, noise(100_000, 1)).unwrap();
        let open_layout = Layout::open(&layout).unwrap();
        let error = build(&root, &open_layout, "tag", &options(), &Meddler(change)).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("file") && text.contains("changed during the build"),
            "{text}"
        );
        // It neither left nor changed anything.
        assert_eq!(files(&layout.join("blobs/sha256")), before);
        assert_eq!(fs::read(layout.join("index.json")).unwrap(), index);
        assert_eq!(files(&layout).len(), 3);
    }
}

#[test]
fn a_layout_inside_the_tree_is_refused() {
    let dir = scratch();
    let root = dir.path().join("root");
    small(&root);
    let inside = root.join("not/yet/there");
    let error = puzzlefs::build::ensure_outside(&root, &inside, true).unwrap_err();
    assert!(error.to_string().contains("inside the tree"), "{error}");
    puzzlefs::build::ensure_outside(&root, &dir.path().join("beside"), false).unwrap();
}

/// Other tools' tags, and what we know nothing of, survive a build.
#[test]
fn other_index_entries_stay() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    small(&root);
    build_into(&root, &layout, "tag", &options());
    let index = layout.join("index.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let foreign = serde_json::json!({
        "mediaType": "application/vnd.example+json", "digest": "sha512:00", "size": 1,
        "annotations": { "org.opencontainers.image.ref.name": "other" }, "unknown": [1, 2],
    });
    value["manifests"]
        .as_array_mut()
        .unwrap()
        .insert(0, foreign.clone());
    value["subject"] = "unknown".into();
    fs::write(&index, value.to_string()).unwrap();
    everything(&root);
    build_into(&root, &layout, "tag", &options());
    build_into(&root, &layout, "second", &options());
    let after: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    assert_eq!(after["manifests"][0], foreign);
    assert_eq!(after["subject"], "unknown");
    assert_eq!(after["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(
        open(&layout, "tag").manifest_digest(),
        open(&layout, "second").manifest_digest()
    );
}
