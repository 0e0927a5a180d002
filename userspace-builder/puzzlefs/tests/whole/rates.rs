// SPDX-License-Identifier: Apache-2.0
//! When comes what nobody reads: by the rates of single images, and after what is waited for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::pulls::{name, tree};
use crate::common::{build_into, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::Options;
use puzzlefs::chunks::sink::Form;
use puzzlefs::layout::reference::Reference;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::fill::lazy_of;
use puzzlefs::lazy::{Engine, Origins, Pace, Pack, RateOf, Rates, Told};
use puzzlefs::pull::find;
use puzzlefs::remote::{Local, Remote};
use puzzlefs::source::Platform;
use puzzlefs_format::Digest;

/// Somewhat longer than what is missing leaves the line to those who wait.
const QUIET: Duration = Duration::from_millis(2300);

/// One tree in packs with other borders, so that the images `a` and `b` share few of them; both lazily in one layout.
fn two_images(dir: &Path) -> PathBuf {
    tree(&dir.join("root"), 40);
    for (tag, target) in [("a", 1 << 20), ("b", 700 << 10)] {
        let form = Form::Packs { target };
        let options = Options { form, ..options() };
        build_into(&dir.join("root"), &dir.join(tag), "v1", &options);
        pull(dir, tag, tag);
    }
    // Then `a` is the source of both.
    for blob in fs::read_dir(dir.join("b/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let to = dir.join("a/blobs/sha256").join(blob.file_name());
        fs::copy(blob.path(), to).unwrap();
    }
    dir.join("to")
}

fn remote(dir: &Path, of: &str) -> Arc<dyn Remote> {
    Arc::new(Local::new(Layout::open(&dir.join(of)).unwrap()))
}

/// Pulls the image `from` lazily as `to:tag`.
fn pull(dir: &Path, from: &str, tag: &str) {
    let remote = remote(dir, from);
    let to = Layout::open_or_create(&dir.join("to")).unwrap();
    let found = find(&*remote, &name("v1"), &Platform::here()).unwrap();
    let origins = Origins::only(Arc::clone(&remote));
    let sources = ["oci:/elsewhere:v1".into()];
    found
        .pull_lazy(&to, tag, &sources, origins, None, &Silent)
        .unwrap();
}

fn lazy_packs(dir: &Path, tag: &str) -> Vec<Digest> {
    let layout = Layout::open(dir).unwrap();
    lazy_of(&layout, open(dir, tag).manifest_bytes()).unwrap()
}

/// Fills the layout for some seconds by `said`; gives which packs are there as a whole then.
fn filled(dir: &Path, said: &[(&str, u64)], seconds: f64) -> Vec<Digest> {
    let to = dir.join("to");
    let layouts = [Layout::open(&to).unwrap()];
    let engine = Engine::new(&layouts, Origins::only(remote(dir, "a")), false, |_| {});
    let said = said.iter().map(|(tag, bytes)| RateOf {
        image: Reference::of_tag(&to, *tag),
        bytes: *bytes,
    });
    let said: Vec<RateOf> = said.collect();
    let rates = Rates::new(&said, &engine);
    let packs = layouts[0].lazy_packs().unwrap();
    let open = |digest| Pack::open(&layouts[0], digest).unwrap().unwrap();
    let numbers: Vec<usize> = packs.iter().map(|it| engine.add(open(it))).collect();
    engine.fill();
    thread::scope(|scope| {
        scope.spawn(|| engine.run().unwrap());
        scope.spawn(|| engine.run().unwrap());
        // Before it is known whose the packs are, nothing comes. What is new is about to be read.
        thread::sleep(QUIET);
        let early = engine.counts().requests();
        let faults = rates.look(&layouts, &engine);
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        engine.stop();
        assert!(said.is_empty() || early == 0, "{early} requests");
        assert!(faults.is_empty(), "{faults:?}");
    });
    let is_whole = |(number, _): &(&usize, &Digest)| engine.is_whole(**number);
    let whole = numbers.iter().zip(&packs).filter(is_whole);
    whole.map(|(_, digest)| *digest).collect()
}

#[test]
fn an_image_comes_by_its_rate() {
    let dir = scratch();
    let to = two_images(dir.path());
    let (a, b) = (lazy_packs(&to, "a"), lazy_packs(&to, "b"));
    let only_a: Vec<Digest> = a.iter().copied().filter(|it| !b.contains(it)).collect();
    assert!(only_a.len() > 3 && only_a.len() < a.len() + b.len());
    // Nothing of one image, but what the other one has; and that one as it comes.
    let whole = filled(dir.path(), &[("a", 0)], 2.0);
    assert!(b.iter().all(|it| whole.contains(it)), "{whole:?}");
    assert!(only_a.iter().all(|it| !whole.contains(it)), "{whole:?}");
    // A chunk, and then for days no other.
    let whole = filled(dir.path(), &[("a", 1)], 1.0);
    let came = only_a.iter().filter(|it| whole.contains(it)).count();
    assert_eq!(came, 0, "packs came by a byte a second");
    // What has two tags comes by the higher rate.
    pull(dir.path(), "a", "again");
    let whole = filled(dir.path(), &[("a", 0)], 2.0);
    assert!(whole.is_empty(), "{whole:?}");
    let whole = filled(dir.path(), &[("again", 1 << 30), ("a", 0)], 2.0);
    let came = only_a.iter().filter(|it| whole.contains(it)).count();
    assert_eq!(came, only_a.len());
    // An image that is not there, and nothing said.
    assert!(filled(dir.path(), &[("other", 0)], 0.1).is_empty());
    assert!(filled(dir.path(), &[], 0.1).is_empty());
}

#[test]
fn a_request_is_what_the_rate_allows_in_a_second() {
    const RATE: u64 = 300_000;
    let dir = scratch();
    let to = two_images(dir.path());
    let layouts = [Layout::open(&to).unwrap()];
    let came = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&came);
    let tell = move |told| {
        if let Told::Came(bytes) = told {
            noted.lock().unwrap().push((Instant::now(), bytes));
        }
    };
    let origins = Origins::only(remote(dir.path(), "a"));
    let engine = Engine::new(&layouts, origins, false, tell).at(Pace::new(Some(RATE)));
    for pack in lazy_packs(&to, "a") {
        engine.add(Pack::open(&layouts[0], &pack).unwrap().unwrap());
    }
    engine.fill();
    thread::scope(|scope| {
        scope.spawn(|| engine.run().unwrap());
        scope.spawn(|| engine.run().unwrap());
        thread::sleep(QUIET + Duration::from_secs(2));
        engine.stop();
    });
    let came = came.lock().unwrap();
    let (first, largest) = (came[0].0, came.iter().map(|it| it.1).max().unwrap());
    for seconds in 1..=2 {
        let until = first + Duration::from_millis(seconds * 900);
        let bytes: u64 = came.iter().filter(|it| it.0 < until).map(|it| it.1).sum();
        let most = seconds * RATE + largest;
        assert!(
            bytes <= most,
            "{bytes} bytes in {seconds} s, which may be {most}"
        );
    }
    // What a request without a rate would bring.
    assert!(RATE + largest < 1 << 20, "a chunk of {largest} bytes");
}

#[test]
fn what_starts_has_the_line_for_itself() {
    let dir = scratch();
    let to = two_images(dir.path());
    let layouts = [Layout::open(&to).unwrap()];
    let origins = Origins::only(remote(dir.path(), "a"));
    let engine = Engine::new(&layouts, origins, false, |_| {});
    engine.fill();
    let packs = lazy_packs(&to, "b");
    let open = |digest| Pack::open(&layouts[0], digest).unwrap().unwrap();
    let numbers: Vec<usize> = packs.iter().map(|it| engine.add(open(it))).collect();
    let came = thread::scope(|scope| {
        scope.spawn(|| engine.run().unwrap());
        // Somebody reads a chunk, and half a second later another one, for longer than it would be quiet.
        let came = (0..6).map(|read| {
            let before = engine.counts().requests();
            let is_here = engine.want_chunks(numbers[read], 0..1, read as u64);
            thread::sleep(Duration::from_millis(500));
            (is_here, engine.counts().requests() - before)
        });
        let came: Vec<(bool, u64)> = came.collect();
        thread::sleep(QUIET);
        engine.stop();
        came
    });
    assert_eq!(came, [(false, 1); 6]);
    let whole = numbers.iter().filter(|it| engine.is_whole(**it));
    assert_eq!(whole.count(), numbers.len());
}
