// SPDX-License-Identifier: Apache-2.0
//! The order of what is written, as strace(1) sees it: whatever has its final name is on disk.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::command::PUZZLEFS;
use crate::common::{noise, scratch};

/// The calls of the command that change files, with the paths of their descriptors.
fn calls(dir: &Path, args: &[&str]) -> Vec<String> {
    let log = dir.join("strace");
    let mut command = Command::new("strace");
    let wanted = "trace=write,pwrite64,writev,rename,renameat,renameat2,fsync,fdatasync,syncfs,\
                  sync,ftruncate";
    command.args([
        "-f",
        "-y",
        "-s",
        "0",
        "-e",
        wanted,
        "-o",
        log.to_str().unwrap(),
    ]);
    let output = command.arg(PUZZLEFS).args(args).output();
    let output = output.expect("these tests need strace");
    assert!(output.status.success(), "{output:?}");
    whole(&fs::read_to_string(&log).unwrap())
}

/// The calls, each in one line, where it ends: strace cuts one in two if another thread comes between.
fn whole(text: &str) -> Vec<String> {
    let (mut begun, mut calls) = (HashMap::new(), Vec::new());
    for line in text.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        if let Some(first) = line.strip_suffix("<unfinished ...>") {
            begun.insert(pid, first);
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            calls.push(format!("{}{rest}", begun.remove(pid).unwrap_or_default()));
        } else {
            calls.push(line.to_owned());
        }
    }
    calls
}

#[test]
fn calls_in_two_lines_are_one() {
    let text = "1 syncfs(3</blobs/sha256> <unfinished ...>\n\
                2 +++ exited with 0 +++\n\
                1 <... syncfs resumed>) = 0\n";
    let whole = ["2 +++ exited with 0 +++", "1 syncfs(3</blobs/sha256> ) = 0"];
    assert_eq!(self::whole(text), whole);
}

/// The lines with a call of one of `names` in which all of `words` are, by their numbers.
fn find(calls: &[String], names: &[&str], words: &[&str]) -> Vec<usize> {
    let is_it = |line: &String| {
        // "PID call(arguments) = result".
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        names
            .iter()
            .any(|name| call.starts_with(&format!("{name}(")))
            && words.iter().all(|word| line.contains(word))
    };
    (0..calls.len())
        .filter(|line| is_it(&calls[*line]))
        .collect()
}

const WRITE: &[&str] = &["write", "pwrite64", "writev", "ftruncate"];
const RENAME: &[&str] = &["rename", "renameat", "renameat2"];

/// index.json was written and synced before it got its name, and that was synced. Returns when it
/// got it. That of a new layout leads to nothing, and is replaced.
fn assert_index_is_durable(calls: &[String]) -> usize {
    let renames = find(calls, RENAME, &[".puzzlefs-new", "\"index.json\""]);
    let Some(&renamed) = renames.last() else {
        panic!("index.json was not renamed\n{}", calls.join("\n"))
    };
    let written = *find(calls, WRITE, &[".puzzlefs-new"]).last().unwrap();
    let synced = find(calls, &["fsync"], &[".puzzlefs-new", "= 0"]);
    let in_between = |line: &&usize| (written..renamed).contains(*line);
    assert!(
        synced.iter().any(|line| in_between(&line)),
        "no fsync of index.json"
    );
    let synced = find(calls, &["fsync"], &["/layout>", "= 0"]);
    assert!(
        synced.iter().any(|line| *line > renamed),
        "no fsync of its directory"
    );
    renamed
}

#[test]
fn a_build_syncs_before_it_names() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(700_000, 1)).unwrap();
    let image = format!("{}:tag", layout.display());
    for form in ["packs", "loose"] {
        fs::write(root.join("file"), noise(700_000, form.len() as u64)).unwrap();
        let build = ["build", "--layout", form, root.to_str().unwrap(), &image];
        let calls = calls(dir.path(), &build);
        // A staged blob gets its final name where both are the same digest.
        let is_final = |line: &usize| {
            let names: Vec<&str> = calls[*line].split('"').skip(1).step_by(2).collect();
            names.len() == 2 && names[0] == names[1] && names[0].len() == 64
        };
        let mut named = find(&calls, RENAME, &["blobs/sha256>"]);
        named.retain(is_final);
        assert!(named.len() >= 3, "{form}: {}", calls.join("\n"));
        let written = *find(&calls, WRITE, &[".puzzlefs-build-"]).last().unwrap();
        let synced = find(&calls, &["syncfs"], &["blobs/sha256>", "= 0"]);
        assert!(
            synced
                .iter()
                .any(|line| written < *line && *line < named[0]),
            "{form}: no sync between the last write and the first name"
        );
        let index = assert_index_is_durable(&calls);
        let last = named[named.len() - 1];
        let synced = find(&calls, &["fsync"], &["blobs/sha256>", "= 0"]);
        assert!(
            synced.iter().any(|line| last < *line && *line < index),
            "{form}: the names are not synced before index.json leads to them"
        );
    }
    assert_index_is_durable(&calls(dir.path(), &["rm", &image]));
}

/// Nothing waits for the disk where nothing is new; what is new is synced, if only the tag is.
#[test]
fn a_build_that_changes_nothing_writes_nothing() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(700_000, 1)).unwrap();
    let build = |tag: &str| {
        let image = format!("{}:{tag}", layout.display());
        calls(dir.path(), &["build", root.to_str().unwrap(), &image])
    };
    assert_index_is_durable(&build("tag"));
    let index = || fs::read(layout.join("index.json")).unwrap();
    let before = index();
    let again = build("tag");
    let synced = find(&again, &["syncfs", "fsync"], &[]);
    let named = find(&again, RENAME, &["/layout"]);
    assert_eq!((synced, named), (vec![], vec![]), "{}", again.join("\n"));
    assert_eq!(index(), before);
    let other = build("other");
    assert_index_is_durable(&other);
    assert!(!find(&other, &["syncfs"], &["blobs/sha256>"]).is_empty());
    // One that somebody else has changed is written anew.
    let text = String::from_utf8(index()).unwrap();
    let text = text.replace("\"artifactType\"", "\"other\"");
    fs::write(layout.join("index.json"), text).unwrap();
    assert_index_is_durable(&build("tag"));
}
