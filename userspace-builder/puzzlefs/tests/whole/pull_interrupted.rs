// SPDX-License-Identifier: Apache-2.0
//! Pulls that are cut off or killed, and pulls beside other commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::layout::packs;
use crate::common::pulls::{assert_whole, name, pull_from};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, noise, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::Options;
use puzzlefs::chunks::sink::Form;
use puzzlefs::layout::Layout;
use puzzlefs::pull::Report;
use puzzlefs::upkeep::gc::gc;

/// A layout with two versions, built apart in packs of some 2 MB: `one:v1`, `two:v2`. A third of the
/// second is new.
fn versions(dir: &Path) -> (PathBuf, PathBuf) {
    let root = dir.join("root");
    fs::create_dir(&root).unwrap();
    let small = || Options {
        form: Form::Packs { target: 2 << 20 },
        ..options()
    };
    let write = |number: u64, seed: u64| {
        fs::write(root.join(format!("{number:03}")), noise(400_000, seed)).unwrap();
    };
    (0..90).for_each(|number| write(number, number));
    build_into(&root, &dir.join("one"), "v1", &small());
    (0..90)
        .step_by(3)
        .for_each(|number| write(number, number + 1000));
    build_into(&root, &dir.join("two"), "v2", &small());
    (dir.join("one"), dir.join("two"))
}

fn pull(source: &Liar, to: &Path, tag: &str) -> puzzlefs::Result<Report> {
    pull_from(source, &name(tag), to, tag)
}

/// Wherever the line is cut, what came stays, and the next pull asks for the rest.
#[test]
fn a_pull_that_is_cut_goes_on() {
    let dir = scratch();
    let (one, two) = versions(dir.path());
    for has_base in [false, true] {
        let full = dir.path().join(format!("full{has_base}"));
        let to = dir.path().join(format!("to{has_base}"));
        if has_base {
            for to in [&full, &to] {
                pull(&Liar::new(&one, Lie::None), to, "v1").unwrap();
            }
        }
        let whole = pull(&Liar::new(&two, Lie::None), &full, "v2").unwrap();
        // Those for the ends of packs are made each time.
        let ends = packs(&two, "v2").len() + 2;
        let (mut attempts, mut asked) = (0, 0);
        loop {
            let mut source = Liar::new(&two, Lie::None);
            source.fails_after = ends + attempts;
            let pulled = pull(&source, &to, "v2");
            let ranges = source.asked.into_inner().unwrap().into_iter();
            asked += ranges
                .map(|(_, range)| range.end - range.start)
                .sum::<u64>();
            attempts += 1;
            assert_whole(&to);
            let named = Layout::open(&to).unwrap().resolve(&name("v2"));
            assert_eq!(pulled.is_ok(), named.is_ok());
            if let Ok(report) = pulled {
                assert!(report.chunks_found > 0);
                break;
            }
        }
        // It would be some times as much, and take more attempts, if nothing stayed.
        assert!(attempts > 3, "{attempts}");
        let all = whole.bytes_fetched;
        assert!(asked < all * 2, "{asked} of {all} in {attempts}");
        assert_eq!(faults(&to, "v2"), [""; 0]);
    }
}

fn start(from: &str, to: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_puzzlefs"))
        .args(["--quiet", "pull", from, to])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Killed at forty moments of its work, each time a little later.
#[test]
fn a_pull_that_is_killed_goes_on() {
    let dir = scratch();
    let (one, two) = versions(dir.path());
    let image = |dir: &Path, tag: &str| format!("{}:{tag}", dir.display());
    let from = format!("oci:{}", image(&two, "v2"));
    let prepare = |to: &Path| {
        pull(&Liar::new(&one, Lie::None), to, "v1").unwrap();
    };
    let full = dir.path().join("full");
    prepare(&full);
    let begun = Instant::now();
    assert!(start(&from, &image(&full, "v2")).wait().unwrap().success());
    let time = begun.elapsed();
    let to = dir.path().join("to");
    prepare(&to);
    let mut killed = 0;
    for step in 1..=40 {
        let mut child = start(&from, &image(&to, "v2"));
        std::thread::sleep(time * step / 40);
        child.kill().unwrap(); // SIGKILL
        let has_ended = child.wait().unwrap().success();
        assert_whole(&to);
        if step % 8 == 0 || has_ended {
            assert_eq!(faults(&to, "v1"), [""; 0]);
        }
        if has_ended {
            break;
        }
        killed += 1;
        // One that was collected between begins again.
        if step == 20 {
            gc(&Layout::open(&to).unwrap(), false, &Silent).unwrap();
        }
    }
    assert!(killed > 5, "{killed}");
    assert!(start(&from, &image(&to, "v2")).wait().unwrap().success());
    assert_eq!(faults(&to, "v2"), [""; 0]);
    assert_eq!(
        open(&to, "v2").rootfs_digest(),
        open(&two, "v2").rootfs_digest()
    );
    // No killed pull has left anything else.
    let names = fs::read_dir(&to)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
}

/// Two pulls, a build and collections at once.
#[test]
fn pulls_beside_a_build_and_collections() {
    let dir = scratch();
    let (one, two) = versions(dir.path());
    let to = dir.path().join("to");
    let image = |tag: &str| format!("{}:{tag}", to.display());
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    for number in 0..20u64 {
        let content = noise(400_000, number * 5 + 7);
        fs::write(other.join(number.to_string()), content).unwrap();
    }
    Layout::open_or_create(&to).unwrap();
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_puzzlefs"))
            .arg("--quiet")
            .args(args)
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .spawn()
            .unwrap()
    };
    let source = |dir: &Path, tag: &str| format!("oci:{}:{tag}", dir.display());
    for round in 0..3 {
        let (v1, v2, built) = (image("v1"), image("v2"), image("built"));
        let mut work = vec![
            run(&["pull", &source(&one, "v1"), &v1]),
            run(&["pull", &source(&two, "v2"), &v2]),
            run(&["build", other.to_str().unwrap(), &built]),
        ];
        let begun = Instant::now();
        while work
            .iter_mut()
            .any(|child| child.try_wait().unwrap().is_none())
        {
            assert!(run(&["gc", to.to_str().unwrap()]).wait().unwrap().success());
            assert!(begun.elapsed() < Duration::from_secs(120));
        }
        for child in &mut work {
            assert!(child.wait().unwrap().success());
        }
        gc(&Layout::open(&to).unwrap(), false, &Silent).unwrap();
        assert_whole(&to);
        for tag in ["v1", "v2", "built"] {
            assert_eq!(faults(&to, tag), [""; 0], "{tag} in round {round}");
        }
        for tag in ["v1", "v2", "built"].into_iter().take(round + 1) {
            assert!(run(&["rm", "--gc", &image(tag)]).wait().unwrap().success());
        }
    }
}
