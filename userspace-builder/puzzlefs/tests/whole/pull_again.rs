// SPDX-License-Identifier: Apache-2.0
//! What a pull remembers: packs that were found sound are not read again, unless they changed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::layout::packs;
use crate::common::pulls::{assert_whole, name, versions};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, options, scratch};
use puzzlefs::base::progress::{Progress, Silent, Unit};
use puzzlefs::build::Options;
use puzzlefs::cache;
use puzzlefs::layout::platform::Platform;
use puzzlefs::layout::Layout;
use puzzlefs::pull::find;
use puzzlefs::upkeep::gc::gc;

/// How many packs were read to be checked.
#[derive(Default)]
struct Checked(AtomicU64);

impl Progress for Checked {
    fn phase(&self, name: &str, total: u64, _: Unit) {
        if name == "checking packs" {
            self.0.fetch_add(total, Ordering::Relaxed);
        }
    }
    fn advance(&self, _: u64) {}
    fn note(&self, text: &str) {
        assert!(text.contains("is damaged"), "{text}");
    }
}

/// Pulls `from:tag` as `to:tag`; returns how many packs were checked.
fn pull(from: &Path, to: &Path, tag: &str, cache: Option<&Path>) -> u64 {
    let source = Liar::new(from, Lie::None);
    let found = find(&source, &name(tag), &Platform::here()).unwrap();
    let layout = Layout::open_or_create(to).unwrap();
    let cache = cache.map(|dir| cache::Options {
        dir: dir.to_owned(),
        force: false,
    });
    let checked = Checked::default();
    found.pull(&layout, tag, cache.as_ref(), &checked).unwrap();
    checked.0.into_inner()
}

#[test]
fn sound_packs_are_not_read_again() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 100);
    let (to, cache) = (dir.path().join("to"), dir.path().join("cache"));
    let cache = Some(cache.as_path());
    let pull = |from: &Path, tag: &str, cache| pull(from, &to, tag, cache);
    assert_eq!(pull(&one, "v1", cache), 0);
    // What came is remembered, and what was there.
    assert_eq!(pull(&two, "v2", cache), 0);
    assert_eq!(pull(&one, "v1", cache), 0);
    assert!(pull(&two, "v2", None) > 0);
    // A pack that changed is looked at, and nothing of it is used.
    let of_both = packs(&to, "v1").into_iter();
    let of_both = of_both.filter(|pack| packs(&to, "v2").contains(pack));
    let pack = of_both.last().expect("a pack of both images");
    let path = to.join("blobs/sha256").join(pack.to_string());
    let mut bytes = fs::read(&path).unwrap();
    bytes[500] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(pull(&two, "v2", cache), 1);
    assert_eq!(faults(&to, "v2"), [""; 0]);
    // A pull of the image that has it fetches it anew.
    assert_eq!(pull(&one, "v1", cache), 1);
    assert_eq!(faults(&to, "v1"), [""; 0]);
    // The pack that was damaged is of no use to anybody.
    gc(&Layout::open(&to).unwrap(), false, &Silent).unwrap();
    assert_eq!(pull(&two, "v2", cache), 0);
    assert_whole(&to);
}

/// A build and a pull into one layout have one memory.
#[test]
fn what_was_built_is_sound() {
    let dir = scratch();
    let (_, two) = versions(dir.path(), 30);
    let (to, cache) = (dir.path().join("to"), dir.path().join("cache"));
    let remembering = Options {
        cache: Some(cache::Options {
            dir: cache.clone(),
            force: false,
        }),
        ..options()
    };
    build_into(&dir.path().join("root"), &to, "built", &remembering);
    assert_eq!(pull(&two, &to, "v2", Some(&cache)), 0);
    assert!(pull(&two, &to, "v2", None) > 0);
}
