// SPDX-License-Identifier: Apache-2.0
//! What is mounted in a tree is in its image, or is said not to be.

use crate::common::namespace::in_namespace;
use serde_json::Value;

/// A tree with mounts: a filesystem, a directory and a file of the same one as the tree's, state of
/// the kernel.
const TREE: &str = "
    mkdir -p $D/root/own $D/root/disk $D/root/same $D/root/proc $D/elsewhere
    for f in own/f file ns pipe; do echo own >$D/root/$f; done
    mount -t tmpfs -o mode=0750 none $D/root/disk
    mkdir $D/root/disk/deep $D/root/disk/deeper
    echo disk >$D/root/disk/deep/f
    mount -t tmpfs none $D/root/disk/deeper
    echo deeper >$D/root/disk/deeper/f
    echo same >$D/elsewhere/f
    mount --bind $D/elsewhere $D/root/same
    mount --bind $D/elsewhere/f $D/root/file
    mkfifo $D/elsewhere/pipe
    mount --bind $D/elsewhere/pipe $D/root/pipe
    mount -t proc proc $D/root/proc
    mount --bind /proc/self/ns/uts $D/root/ns
";

/// The report of `puzzlefs build`, the paths of the image, and what some files have.
fn build(options: &str) -> (Value, Vec<String>, String) {
    let script = format!(
        "{TREE}
        $P build {options} --format json $D/root $D/layout:tag
        echo ---
        $P ls -R $D/layout:tag
        echo ---
        $P extract $D/layout:tag $D/out
        cd $D/out
        tail -n +1 own/f file ns disk/deep/f disk/deeper/f same/f 2>/dev/null || true
        stat -c '%n %F %a %Y' disk proc ns pipe"
    );
    let out = in_namespace(&script);
    let parts: Vec<&str> = out.split("---\n").collect();
    let report = serde_json::from_str(parts[0]).unwrap();
    let paths = parts[1].lines().map(str::to_owned).collect();
    (report, paths, parts[2].to_owned())
}

fn left_out(report: &Value) -> Vec<(&str, &str)> {
    let list = report["left_out"].as_array().unwrap().iter();
    list.map(|item| {
        let field = |name: &str| item[name].as_str().unwrap();
        (field("path"), field("reason"))
    })
    .collect()
}

/// By default all mounts are in the image, but for the kernel's state.
#[test]
fn mounts_are_in_the_image() {
    let (report, paths, files) = build("");
    let expected = [
        ("/ns", "nsfs: state of the kernel"),
        ("/proc", "proc: state of the kernel"),
    ];
    assert_eq!(left_out(&report), expected);
    for path in [
        "/disk/deep/f",
        "/disk/deeper/f",
        "/same/f",
        "/own/f",
        "/file",
    ] {
        assert!(paths.iter().any(|found| found == path), "{path}: {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.starts_with("/proc/")));
    for text in [
        "==> own/f <==\nown\n",
        "==> file <==\nsame\n",
        "==> ns <==\n\n",
        "==> disk/deep/f <==\ndisk\n",
        "==> disk/deeper/f <==\ndeeper\n",
        "==> same/f <==\nsame\n",
        "proc directory 555 0\n",
        "ns regular empty file 444 0\n",
        "pipe fifo 644 ",
    ] {
        assert!(files.contains(text), "{text}: {files}");
    }
}

/// With -x none is, whatever it is, and wherever it comes from.
#[test]
fn one_file_system_is_one_mount() {
    let (report, paths, files) = build("-x");
    let other = |path| (path, "another mount");
    let expected = ["/disk", "/file", "/ns", "/pipe", "/proc", "/same"].map(other);
    let mut found = left_out(&report);
    found.sort();
    assert_eq!(found, expected);
    let names = [
        "/disk", "/file", "/ns", "/own", "/own/f", "/pipe", "/proc", "/same",
    ];
    let mut paths: Vec<&str> = paths
        .iter()
        .map(String::as_str)
        .filter(|path| *path != "/")
        .collect();
    paths.sort();
    assert_eq!(paths, names);
    for text in [
        "disk directory 750 0\n",
        "pipe regular empty file 644 0\n",
        "==> file <==\n\n",
    ] {
        assert!(files.contains(text), "{text}: {files}");
    }
}

/// The text says it too, and a layout may be on a mount that is left out.
#[test]
fn the_layout_is_no_part_of_its_image() {
    let script = format!(
        "{TREE}
        ! $P build $D/root $D/root/disk/layout:tag 2>&1
        test ! -e $D/root/disk/layout
        ! $P build -x $D/root $D/root/own/layout:tag 2>&1
        $P build -x $D/root $D/root/disk/layout:tag
        $P ls -R $D/root/disk/layout:tag"
    );
    let out = in_namespace(&script);
    assert_eq!(out.matches("lies inside the tree").count(), 2, "{out}");
    assert!(out.contains("left out  /same (another mount)\n"), "{out}");
    assert!(
        out.contains("/disk\n") && !out.contains("/disk/deep"),
        "{out}"
    );
}
