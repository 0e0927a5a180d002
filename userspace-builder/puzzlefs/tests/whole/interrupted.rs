// SPDX-License-Identifier: Apache-2.0
//! Builds that are killed, and builds at the same time.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{faults, noise, scratch};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::Layout;
use puzzlefs::upkeep::gc::gc;

fn start(root: &Path, image: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_puzzlefs"))
        .args(["build", "--compression", "zstd:19", "--pack-size", "100000"])
        .arg(root)
        .arg(image)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn staging(layout: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(layout).into_iter().flatten().flatten();
    let ours = entries.filter(|e| {
        e.file_name()
            .as_encoded_bytes()
            .starts_with(b".puzzlefs-build-")
    });
    ours.map(|e| e.path()).collect()
}

/// All blobs under their final names have the content that the names say.
fn assert_whole(layout: &Path) {
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let digest = sha256(&[&fs::read(&path).unwrap()]).to_string();
        assert_eq!(path.file_name().unwrap().to_str(), Some(digest.as_str()));
    }
}

/// A layout with a build that was killed when it had written some blobs, long before it had
/// written all. It is sound.
fn killed(root: &Path, layout: &Path) {
    fs::create_dir(root).unwrap();
    fs::write(root.join("first"), "first").unwrap();
    let image = format!("{}:tag", layout.display());
    assert!(start(root, &image).wait().unwrap().success());
    let index = fs::read(layout.join("index.json")).unwrap();
    let text: Vec<u8> = noise(40 << 20, 1).iter().map(|b| b & 15).collect();
    fs::write(root.join("big"), text).unwrap();

    let mut child = start(root, &image);
    let begun = Instant::now();
    while staging(layout)
        .first()
        .is_none_or(|dir| fs::read_dir(dir).unwrap().count() < 3)
    {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no blob is staged"
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "the build ended before it could be killed"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert_eq!(staging(layout).len(), 1, "what the killed build staged");
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), index);
    assert_whole(layout);
    assert_eq!(faults(layout, "tag"), [""; 0]);
}

#[test]
fn a_killed_build_leaves_the_layout_as_it_was() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    killed(&root, &layout);
    fs::write(root.join("big"), "small now").unwrap();
    let image = format!("{}:tag", layout.display());
    assert!(start(&root, &image).wait().unwrap().success());
    assert_eq!(staging(&layout).len(), 0, "the next build cleans up");
    assert_whole(&layout);
    assert_eq!(faults(&layout, "tag"), [""; 0]);
}

#[test]
fn gc_removes_what_a_killed_build_left() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    killed(&root, &layout);
    let left = layout.join(".puzzlefs-new");
    fs::write(&left, "half an index").unwrap();
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().count();
    for dry_run in [true, false] {
        let report = gc(&Layout::open(&layout).unwrap(), dry_run, &Silent).unwrap();
        assert!(report.abandoned_bytes > 50_000, "{report:?}");
        assert!(report.removed.is_empty());
        assert_eq!(staging(&layout).is_empty(), !dry_run);
        assert_eq!(left.exists(), dry_run);
    }
    assert_eq!(
        fs::read_dir(layout.join("blobs/sha256")).unwrap().count(),
        blobs
    );
    assert_eq!(faults(&layout, "tag"), [""; 0]);
}

#[test]
fn builds_at_the_same_time_keep_all_tags() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(300_000, 1)).unwrap();
    let tags: Vec<String> = (0..6).map(|i| format!("tag{i}")).collect();
    let builds: Vec<Child> = tags
        .iter()
        .map(|tag| start(&root, &format!("{}:{tag}", layout.display())))
        .collect();
    for mut build in builds {
        assert!(build.wait().unwrap().success());
    }
    tags.iter()
        .for_each(|tag| assert_eq!(faults(&layout, tag), [""; 0]));
    assert_eq!(staging(&layout).len(), 0);
}
