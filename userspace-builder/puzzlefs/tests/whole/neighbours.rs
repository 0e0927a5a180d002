// SPDX-License-Identifier: Apache-2.0
//! Where the chunks of lazy packs come from: other packs of the layout, then sources in the order that the user has said,
//! then those of the record.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::command::{failure, puzzlefs, success};
use crate::common::pulls::{assert_whole, name, tree};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::Options;
use puzzlefs::chunks::sink::Form;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::fill::{fill, lazy_of, Report};
use puzzlefs::lazy::{Origins, Pack};
use puzzlefs::pull::find;
use puzzlefs::remote::Remote;
use puzzlefs::source::Platform;
use puzzlefs_format::Digest;
use serde_json::Value;

/// Two images of one tree, whose packs have other borders: `one:v1` and `two:v1`. All their chunks are the same.
fn sources(dir: &Path) -> (PathBuf, PathBuf) {
    tree(&dir.join("root"), 40);
    for (to, target) in [("one", 1 << 20), ("two", 700 << 10)] {
        let form = Form::Packs { target };
        let options = Options { form, ..options() };
        build_into(&dir.join("root"), &dir.join(to), "v1", &options);
    }
    (dir.join("one"), dir.join("two"))
}

/// The lazy packs of `dir:a` that `dir:b` has not.
fn only_first(dir: &Path) -> Vec<Digest> {
    let both = lazy_packs(dir, "b");
    let mut first = lazy_packs(dir, "a");
    first.retain(|pack| !both.contains(pack));
    first
}

/// Pulls `v1` of `from` lazily as `to:tag`; says how many requests were made for chunks.
fn pull_lazily(from: &Path, to: &Path, tag: &str) -> usize {
    let liar = Liar::new(from, Lie::None);
    let found = find(&liar, &name("v1"), &Platform::here()).unwrap();
    let layout = Layout::open_or_create(to).unwrap();
    let counted = Arc::new(Liar::new(from, Lie::None));
    let filler: Arc<dyn Remote> = counted.clone();
    let sources = ["oci:/elsewhere:v1".to_owned()];
    let origins = Origins::only(filler);
    found
        .pull_lazy(&layout, tag, &sources, origins, None, &Silent)
        .unwrap();
    let asked = counted.asked.lock().unwrap().len();
    asked
}

fn lazy_packs(dir: &Path, tag: &str) -> Vec<Digest> {
    let layout = Layout::open(dir).unwrap();
    lazy_of(&layout, open(dir, tag).manifest_bytes()).unwrap()
}

/// Fetches the rest of `dir:tag`; says how many requests were made as well.
fn complete(from: &Path, dir: &Path, tag: &str) -> (Report, usize) {
    let counted = Arc::new(Liar::new(from, Lie::None));
    let remote: Arc<dyn Remote> = counted.clone();
    let layout = Layout::open(dir).unwrap();
    let packs = lazy_packs(dir, tag);
    let report = fill(
        &layout,
        &packs,
        None,
        vec![],
        Origins::only(remote),
        &Silent,
    )
    .unwrap();
    let asked = counted.asked.lock().unwrap().len();
    (report, asked)
}

#[test]
fn what_one_image_fetched_another_one_copies() {
    let dir = scratch();
    let ((one, two), to) = (sources(dir.path()), dir.path().join("to"));
    pull_lazily(&one, &to, "a");
    let before = lazy_packs(&to, "a");
    let (report, asked) = complete(&one, &to, "a");
    assert!(asked > 5 && report.requests == asked as u64, "{report:?}");
    assert_eq!(report.copied, 0);
    // Not even for its metadata anybody is asked, nor for anything else.
    assert_eq!(pull_lazily(&two, &to, "b"), 0);
    let packs = lazy_packs(&to, "b");
    let others = packs.iter().filter(|pack| !before.contains(pack)).count();
    assert!(others > 5, "{others} of {} packs are others", packs.len());
    let (report, asked) = complete(&two, &to, "b");
    assert_eq!((report.requests, asked), (0, 0), "{report:?}");
    assert!(report.copied == report.bytes && report.bytes > 4_000_000);
    assert_whole(&to);
    assert_eq!(faults(&to, "b"), Vec::<String>::new());
}

#[test]
fn what_is_half_here_is_copied_as_far_as_it_is() {
    let dir = scratch();
    let ((one, two), to) = (sources(dir.path()), dir.path().join("to"));
    pull_lazily(&one, &to, "a");
    pull_lazily(&two, &to, "b");
    // Of the first image half of the packs.
    let layout = Layout::open(&to).unwrap();
    let half = only_first(&to);
    let half = &half[..half.len() / 2];
    let origins = || Origins::only(Arc::new(Liar::new(&one, Lie::None)));
    let first = fill(&layout, half, None, vec![], origins(), &Silent).unwrap();
    let (second, _) = complete(&two, &to, "b");
    assert!(second.copied > 0 && second.copied <= first.bytes);
    assert!(second.copied * 10 > first.bytes * 9, "{second:?} {first:?}");
    assert!(second.requests > 0);
    // All of it is here now, in the packs of the other one.
    let (third, asked) = complete(&one, &to, "a");
    assert_eq!((third.requests, asked), (0, 0), "{third:?}");
    assert_whole(&to);
}

/// The index of a pack can be read although the chunk before it, which ends in the same page, is not here.
#[test]
fn who_reads_an_index_waits_for_no_chunk() {
    let dir = scratch();
    let ((one, _), to) = (sources(dir.path()), dir.path().join("to"));
    pull_lazily(&one, &to, "a");
    let layout = Layout::open(&to).unwrap();
    let mut shared = 0;
    for digest in lazy_packs(&to, "a") {
        let pack = Pack::open(&layout, &digest).unwrap().unwrap();
        let (start, count) = (pack.end.start, pack.end.entries.len());
        let page = start / 4096 * 4096;
        let last = u64::from(pack.end.entries[count - 1].offset);
        shared += usize::from(last < page && page < start);
        assert!(pack.chunks_read(&(page..page + 8192)).is_empty());
        // Chunks that begin in this page are small, and somebody may read them.
        let near = pack.chunks_read(&(page..page + 4096));
        assert!(near
            .clone()
            .all(|it| u64::from(pack.end.entries[it].offset) >= page));
        // Who reads the chunk begins where it does.
        let from = last / 4096 * 4096;
        assert!(from == page || pack.chunks_read(&(from..pack.size)).contains(&(count - 1)));
        assert_eq!(pack.chunks_read(&(0..u64::MAX)), 0..count);
    }
    assert!(shared > 3, "{shared}");
}

#[test]
fn packs_that_lie_are_no_neighbours() {
    let dir = scratch();
    let ((one, two), to) = (sources(dir.path()), dir.path().join("to"));
    pull_lazily(&one, &to, "a");
    pull_lazily(&two, &to, "b");
    let packs = only_first(&to);
    complete(&one, &to, "a");
    for pack in &packs {
        let path = to.join("blobs/sha256").join(pack.to_string());
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&[0; 1000], 0).unwrap();
    }
    let (report, asked) = complete(&two, &to, "b");
    assert!(asked > 0 && report.copied < report.bytes, "{report:?}");
    assert_eq!(faults(&to, "b"), Vec::<String>::new());
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&success(&puzzlefs(args))).unwrap()
}

/// A layout that goes away, as a network filesystem does, and comes back.
#[test]
fn a_directory_goes_and_comes_back() {
    let dir = scratch();
    let (one, _) = sources(dir.path());
    let [to, gone] = ["to", "gone"].map(|it| dir.path().join(it));
    let [one, to, gone] = [&one, &to, &gone].map(|it| it.to_str().unwrap());
    let (source, image) = (format!("oci:{one}:v1"), format!("{to}:v1"));
    let report = json(&["pull", "--lazy", "--format", "json", &source, &image]);
    assert_eq!(report["complete"], false);
    fs::rename(one, gone).unwrap();
    let said = failure(&puzzlefs(&["complete", &image]));
    assert!(said.contains(&format!("from oci:{one}@sha256:")), "{said}");
    assert!(said.contains("the chunk sha256:"), "{said}");
    fs::rename(gone, one).unwrap();
    let report = json(&["complete", "--format", "json", &image]);
    assert!(report["lazy"]["requests"].as_u64().unwrap() > 5, "{report}");
    assert_whole(Path::new(to));
}

#[test]
fn sources_are_asked_in_the_order_that_the_user_says() {
    let dir = scratch();
    let (one, _) = sources(dir.path());
    let one = one.to_str().unwrap();
    let copy = |name: &str| {
        let to = dir.path().join(name);
        success(&puzzlefs(&[
            "pull",
            &format!("oci:{one}:v1"),
            &format!("{}:v1", to.display()),
        ]));
        to.to_str().unwrap().to_owned()
    };
    let (near, far) = (copy("near"), format!("oci:{}:v1", copy("far")));
    let (place, nowhere) = (format!("oci:{near}:v1"), format!("oci:{near}-not:v1"));
    // The record names both, in this order.
    let image = format!("{}:v1", dir.path().join("to").display());
    json(&[
        "pull", "--lazy", "--from", &place, "--format", "json", &far, &image,
    ]);
    let status = json(&["status", "--format", "json", &image.replace(":v1", "")]);
    let sources = status["images"][0]["lazy"][0]["sources"]
        .as_array()
        .unwrap();
    let sources: Vec<&str> = sources.iter().map(|it| it.as_str().unwrap()).collect();
    let starts = [&place, &far].map(|it| it.replace(":v1", "@sha256:"));
    assert_eq!(sources.len(), 2);
    assert!(
        sources
            .iter()
            .zip(&starts)
            .all(|(source, start)| source.starts_with(start)),
        "{sources:?}"
    );
    // The far one is gone: the near one gives all.
    fs::rename(dir.path().join("far"), dir.path().join("farther")).unwrap();
    json(&["complete", "--format", "json", &image]);
    assert_whole(&dir.path().join("to"));
    // And where the record knows of no place that is there, the command does.
    fs::rename(dir.path().join("farther"), dir.path().join("far")).unwrap();
    let image = format!("{}:v1", dir.path().join("third").display());
    json(&["pull", "--lazy", "--format", "json", &far, &image]);
    fs::rename(dir.path().join("far"), dir.path().join("farther")).unwrap();
    failure(&puzzlefs(&["complete", &image]));
    json(&[
        "complete", "--from", &nowhere, "--from", &place, "--format", "json", &image,
    ]);
    assert_whole(&dir.path().join("third"));
    // A pull that is not lazy asks it for blobs, too.
    fs::rename(dir.path().join("farther"), dir.path().join("far")).unwrap();
    for entry in fs::read_dir(dir.path().join("far/blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().len() > 100_000 {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let image = format!("{}:v1", dir.path().join("fourth").display());
    failure(&puzzlefs(&["pull", &far, &image]));
    success(&puzzlefs(&[
        "pull", "--from", &nowhere, "--from", &place, &far, &image,
    ]));
    assert_whole(&dir.path().join("fourth"));
}

/// Packs of two images that are fetched at once: each chunk comes once, and is copied.
#[test]
fn what_two_packs_lack_at_once_comes_once() {
    let dir = scratch();
    let ((one, two), to) = (sources(dir.path()), dir.path().join("to"));
    pull_lazily(&one, &to, "a");
    pull_lazily(&two, &to, "b");
    // One source for both.
    for blob in fs::read_dir(two.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), one.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    let layout = Layout::open(&to).unwrap();
    let (a, b) = (lazy_packs(&to, "a"), lazy_packs(&to, "b"));
    // Side by side: what has the same chunks is asked for at the same time.
    let mut packs: Vec<Digest> = a.iter().zip(&b).flat_map(|(a, b)| [*a, *b]).collect();
    packs.extend(
        a.iter()
            .chain(&b)
            .filter(|pack| !packs.contains(pack))
            .copied()
            .collect::<Vec<_>>(),
    );
    let mut seen = HashSet::new();
    packs.retain(|pack| seen.insert(*pack));
    let open = |pack| Pack::open(&layout, pack).unwrap().unwrap();
    let entries = packs.iter().flat_map(|pack| open(pack).end.entries);
    let chunks: HashMap<_, _> = entries.map(|it| (it.digest, u64::from(it.size))).collect();
    let once: u64 = chunks.values().sum();
    let mut slow = Liar::new(&one, Lie::None);
    slow.takes = std::time::Duration::from_millis(50);
    let origins = Origins::only(Arc::new(slow));
    let report = fill(&layout, &packs, None, vec![], origins, &Silent).unwrap();
    assert!(once < report.bytes * 6 / 10, "{once} bytes {report:?}");
    assert_eq!(report.bytes - report.copied, once);
    assert_whole(&to);
}
