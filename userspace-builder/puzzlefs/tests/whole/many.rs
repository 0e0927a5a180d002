// SPDX-License-Identifier: Apache-2.0
//! Many packs, and few files that may be open.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::command::{failure, success, PUZZLEFS};
use crate::common::layout::packs;
use crate::common::{assert_same_tree, noise, scratch};

/// Runs the command with so many descriptors, soft and hard.
fn limited(descriptors: u32, args: &[&str]) -> Output {
    let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-euc", &script, PUZZLEFS]).args(args);
    command.output().unwrap()
}

/// Bytes of a file that is a chunk by itself: smaller ones are compressed together.
const SIZE: usize = 17_000;

/// How its tree is built.
const BUILD: [&str; 5] = ["build", "--chunk-size", "65536", "--pack-size", "4096"];

/// A tree of files that become a pack each.
fn tree(root: &Path, files: u64) {
    fs::create_dir(root).unwrap();
    for number in 0..files {
        fs::write(root.join(format!("{number}")), noise(SIZE, number)).unwrap();
    }
}

/// Every command, where there are many more packs than descriptors.
fn all_commands(files: u64, descriptors: u32) {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, files);
    let (root_arg, layout_arg) = (root.to_str().unwrap(), layout.to_str().unwrap());
    let image = |tag: &str| format!("{layout_arg}:{tag}");
    let run = |args: &[&str]| success(&limited(descriptors, args));
    let build = |tag| run(&[&BUILD[..], &[root_arg, &image(tag)]].concat());
    build("a");
    assert!(packs(&layout, "a").len() as u64 >= files, "too few packs");
    let text = run(&["verify", &image("a")]);
    assert!(text.contains("ok: "), "{text}");
    run(&["inspect", &image("a")]);
    run(&["du", layout_arg]);
    let out = dir.path().join("out");
    run(&["extract", &image("a"), out.to_str().unwrap()]);
    assert_same_tree(&root, &out);
    // Nothing is new but for one file.
    fs::write(root.join("new"), noise(SIZE, files)).unwrap();
    build("b");
    run(&["repack", "--gc", layout_arg]);
    assert!(packs(&layout, "b").len() < 10, "not repacked");
    run(&["verify", &image("b")]);
}

#[test]
fn a_thousand_packs_and_64_descriptors() {
    all_commands(1000, 64);
}

/// Whoever may open nothing at all has found no damage.
#[test]
fn too_many_open_files_are_no_damage() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, 40);
    let image = format!("{}:tag", layout.display());
    let args = [&BUILD[..], &[root.to_str().unwrap(), &image]].concat();
    success(&limited(64, &args));
    let mut said = 0;
    for descriptors in 4..24 {
        let output = limited(descriptors, &["verify", &image]);
        if output.status.success() {
            continue;
        }
        let text = failure(&output);
        assert_eq!(output.status.code(), Some(1), "{descriptors}: {text}");
        said += u32::from(text.contains("Too many open files"));
        for word in ["DAMAGED", "damaged", "delete"] {
            assert!(!text.contains(word), "{descriptors}: {text}");
        }
    }
    assert!(said > 0, "the limit was never met");
    // Sixteen packs, and some for all else.
    success(&limited(32, &["verify", &image]));
}

/// A soft limit is no limit.
#[test]
fn the_soft_limit_is_raised() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    tree(&root, 10);
    let image = format!("{}:tag", layout.display());
    let script = "ulimit -Sn 6; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-euc", script, PUZZLEFS, "build"]);
    success(&command.arg(&root).arg(&image).output().unwrap());
}
