// SPDX-License-Identifier: Apache-2.0
//! Layouts in trouble: an image that is broken, a disk that is full, blobs on another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::command::{failure, puzzlefs, success, unshared};
use crate::common::layout::{blobs, store};
use crate::common::{build_into, faults, loose, noise, open, options, scratch};
use puzzlefs::build::Options;

/// A layout with the images `good` and `bad`, which have nothing in common.
fn good_and_bad(dir: &Path, options: &Options) -> (PathBuf, PathBuf) {
    let (root, layout) = (dir.join("root"), dir.join("layout"));
    fs::create_dir(&root).unwrap();
    for (seed, tag) in (1..).zip(["bad", "good"]) {
        fs::write(root.join("file"), noise(300_000, seed)).unwrap();
        build_into(&root, &layout, tag, options);
    }
    (root, layout)
}

/// What it said of damage.
fn damaged(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    failure(output)
}

/// Damages a blob of `bad`.
fn damage(layout: &Path, digest: &str) {
    let path = layout.join("blobs/sha256").join(digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn one_broken_image_does_not_stop_the_others() {
    for options in [options(), loose()] {
        let dir = scratch();
        let (_, layout) = good_and_bad(dir.path(), &options);
        let bad = open(&layout, "bad").manifest_digest().to_string();
        damage(&layout, &open_rootfs(&layout, "bad"));
        let kept = blobs(&layout);
        store(&layout, b"garbage");
        let layout_arg = layout.to_str().unwrap();

        let output = puzzlefs(&["du", "--format", "json", layout_arg]);
        damaged(&output);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["images"][0]["tags"][0], "good");
        assert!(
            report["broken"][0].as_str().unwrap().contains(&bad),
            "{report}"
        );

        let text = damaged(&puzzlefs(&["gc", layout_arg]));
        assert!(
            text.contains(&bad) && text.contains("removed    1 blobs"),
            "{text}"
        );
        assert_eq!(
            blobs(&layout),
            kept,
            "all that the broken image lists stays"
        );

        let before = open(&layout, "good").manifest_digest().to_string();
        for command in ["unpack", "repack"] {
            let text = damaged(&puzzlefs(&[command, layout_arg]));
            assert!(text.contains(&bad), "{command}: {text}");
            assert_eq!(faults(&layout, "good"), [""; 0]);
        }
        let after = open(&layout, "good").manifest_digest().to_string();
        assert_eq!(
            before == after,
            options.form == crate::common::options().form
        );
        // Whoever asks for it by name gets nothing else.
        damaged(&puzzlefs(&["repack", layout_arg, "bad"]));
        success(&puzzlefs(&["rm", &format!("{layout_arg}:bad")]));
        success(&puzzlefs(&["gc", layout_arg]));
    }
}

/// Nothing is known of an image that could not be read, least of all that it is damaged.
#[test]
fn what_could_not_be_read_is_not_called_damaged() {
    let dir = scratch();
    let (_, layout) = good_and_bad(dir.path(), &options());
    let bad = open(&layout, "bad").manifest_digest().to_string();
    let rootfs = layout
        .join("blobs/sha256")
        .join(open_rootfs(&layout, "bad"));
    let elsewhere = dir.path().join("rootfs");
    fs::rename(&rootfs, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &rootfs).unwrap();
    store(&layout, b"garbage");
    let kept = blobs(&layout);
    let layout_arg = layout.to_str().unwrap();
    for command in [
        &["du", "--format", "json", layout_arg][..],
        &["gc", layout_arg],
        &["unpack", layout_arg],
        &["repack", layout_arg],
        &["repack", layout_arg, "bad"],
    ] {
        let output = puzzlefs(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {output:?}");
        let text = failure(&output);
        assert!(text.contains(&bad), "{command:?}: {text}");
        if command[0] == "du" {
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["broken"], serde_json::json!([]));
            assert!(report["unread"][0].as_str().unwrap().contains(&bad));
            assert_eq!(report["images"][0]["tags"][0], "good");
        }
        if command[0] == "gc" {
            assert_eq!(blobs(&layout), kept, "what it needs is not known");
        }
        assert_eq!(faults(&layout, "good"), [""; 0]);
    }
    fs::rename(&elsewhere, &rootfs).unwrap();
    assert_eq!(faults(&layout, "bad"), [""; 0]);
}

fn open_rootfs(layout: &Path, tag: &str) -> String {
    open(layout, tag).rootfs_digest().to_string()
}

/// A chunk that is damaged shows only when it is read.
#[test]
fn a_damaged_chunk_stops_its_image_alone() {
    let dir = scratch();
    let (_, layout) = good_and_bad(dir.path(), &loose());
    let image = open(&layout, "bad");
    let chunk = image.chunks().unwrap()[0].0.to_string();
    let bad = image.manifest_digest().to_string();
    damage(&layout, &chunk);
    let layout_arg = layout.to_str().unwrap();
    let text = damaged(&puzzlefs(&["repack", layout_arg]));
    assert!(text.contains(&bad) && text.contains(&chunk), "{text}");
    assert_eq!(open(&layout, "bad").manifest_digest().to_string(), bad);
    assert_eq!(crate::common::layout::packs(&layout, "good").len(), 1);
    assert_eq!(faults(&layout, "good"), [""; 0]);
}

/// Not a byte is free: the tag goes all the same, and no other is lost.
#[test]
fn a_tag_is_removed_on_a_full_disk() {
    for options in ["", "--gc"] {
        let dir = scratch();
        let (_, layout) = good_and_bad(dir.path(), &crate::common::options());
        let good = open(&layout, "good").manifest_digest().to_string();
        let script = format!(
            "mkdir full
            mount -t tmpfs -o size=2m,nr_inodes=100 full full
            cp -a layout full/
            cat /dev/zero >full/filler || :
            fails cp full/layout/oci-layout full/more
            rm -f full/more
            $PUZZLEFS rm {options} full/layout:bad
            fails $PUZZLEFS inspect full/layout:bad
            $PUZZLEFS verify full/layout:good
            $PUZZLEFS gc full/layout
            $PUZZLEFS verify full/layout:good
            ls -A full/layout; cat full/layout/index.json"
        );
        let text = success(&unshared(&script, dir.path()));
        assert!(text.contains("blobs\nindex.json\noci-layout\n"), "{text}");
        assert!(text.contains(&good), "{text}");
    }
}

/// Where nothing can be made free, the index stays, and the message says what helps.
#[test]
fn a_full_disk_loses_no_index() {
    let dir = scratch();
    let (_, layout) = good_and_bad(dir.path(), &options());
    // Both tags name one manifest, so none of it can go.
    let image = format!("{}:bad", layout.display());
    success(&puzzlefs(&["tag", &image, "good"]));
    let script = "mkdir full
        mount -t tmpfs -o size=2m,nr_inodes=100 full full
        cp -a layout full/
        cat /dev/zero >full/filler || :
        cp full/layout/index.json before
        fails $PUZZLEFS rm full/layout:bad 2>error
        cmp full/layout/index.json before
        $PUZZLEFS verify full/layout:bad
        ls -A full/layout; cat error";
    let text = success(&unshared(script, dir.path()));
    assert!(text.contains("blobs\nindex.json\noci-layout\n"), "{text}");
    assert!(
        text.contains("the disk is full") && text.contains("rm --gc"),
        "{text}"
    );
}

/// blobs/sha256 lies on another filesystem: nothing can be renamed there from the layout.
#[test]
fn blobs_may_be_on_another_filesystem() {
    for link in ["blobs", "blobs/sha256"] {
        let dir = scratch();
        let (root, _) = good_and_bad(dir.path(), &options());
        fs::write(root.join("third"), noise(100_000, 3)).unwrap();
        let script = format!(
            "mkdir away
            mount -t tmpfs away away
            mv layout/{link} away/there
            ln -s ../away/there layout/{link} || :
            test -d layout/{link} || ln -sfn ../../away/there layout/{link}
            $PUZZLEFS build root layout:third
            $PUZZLEFS build --layout loose root layout:fourth
            $PUZZLEFS repack layout || exit 1
            $PUZZLEFS verify layout:third
            $PUZZLEFS verify layout:fourth
            find layout/ away -name '.puzzlefs*'"
        );
        let text = success(&unshared(&script, dir.path()));
        assert!(!text.contains(".puzzlefs"), "{text}");
    }
}

#[test]
fn without_proc_it_is_said() {
    let dir = scratch();
    good_and_bad(dir.path(), &options());
    let script = "mount -t tmpfs none /proc
        fails $PUZZLEFS build root layout:new 2>error
        fails $PUZZLEFS extract layout:good out 2>>error
        fails test -e out
        $PUZZLEFS verify layout:good
        cat error";
    let text = success(&unshared(script, dir.path()));
    assert_eq!(
        text.matches("/proc is not mounted here").count(),
        2,
        "{text}"
    );
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let dir = scratch();
    let (root, layout) = good_and_bad(dir.path(), &options());
    let (root, image) = (root.to_str().unwrap(), format!("{}:new", layout.display()));
    let build = |args: &[&str]| puzzlefs(&[&["build"], args, &[root, &image]].concat());
    for (args, words) in [
        (&["--pack-size", "0"][..], "a pack has 4096 to"),
        (&["--pack-size", "100G"], "a pack has 4096 to"),
        (
            &["--pack-size", "1M", "--layout", "loose"],
            "there are no packs",
        ),
        (&["--pack-size", "1M", "--compat"], "there are no packs"),
        (
            &["--frame-size", "64K", "--compression", "lz4"],
            "only zstd has frames",
        ),
        (
            &["--frame-size", "64K", "--compression", "none"],
            "only zstd has frames",
        ),
        (&["--frame-size", "0"], "smaller than a page"),
        (&["--frame-size", "1K"], "smaller than a page"),
        (&["--chunk-size", "0"], ""),
        (&["--chunk-size", "65535"], ""),
        (&["--chunk-size", "1T"], "K, M or G"),
        (&["--threads", "0"], "1 to 1024"),
        (&["--threads", "100000"], "1 to 1024"),
    ] {
        let text = failure(&build(args));
        assert!(text.contains(words), "{args:?}: {text}");
    }
    success(&build(&[
        "--pack-size",
        "1M",
        "--chunk-size",
        "128k",
        "--frame-size",
        "64K",
    ]));
    let layout = layout.to_str().unwrap();
    failure(&puzzlefs(&["repack", "--pack-size", "0", layout]));
    failure(&puzzlefs(&["repack", "--max-unused", "101", layout]));
    success(&puzzlefs(&["repack", "--pack-size", "8M", layout]));
}
