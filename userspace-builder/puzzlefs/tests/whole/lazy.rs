// SPDX-License-Identifier: Apache-2.0
//! Lazy pulls: only metadata come, what is there is recorded, and nobody takes the rest for more than it is.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::common::layout::blobs;
use crate::common::pulls::{assert_whole, manifest, name, pull_from, tree};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::chunks::pack::DEFAULT_TARGET;
use puzzlefs::chunks::presence::Presence;
use puzzlefs::chunks::sink::Form;
use puzzlefs::extract;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::fill::{fill, lazy_of};
use puzzlefs::lazy::status::status;
use puzzlefs::lazy::{Origins, Pack};
use puzzlefs::pull::{find, Report};
use puzzlefs::remote::{Local, Remote};
use puzzlefs::reports::{du::du, inspect::inspect};
use puzzlefs::source::Platform;
use puzzlefs::upkeep::{convert, gc::gc, remove::remove};
use puzzlefs::verify::verify;
use puzzlefs::{Error, Result};
use puzzlefs_format::Digest;

/// Bytes of packs: several of the image's.
const TARGET: u64 = 1 << 20;

/// Builds `dir/one:v1`, an image of several packs.
fn source(dir: &Path) -> std::path::PathBuf {
    tree(&dir.join("root"), 40);
    let form = Form::Packs { target: TARGET };
    let options = puzzlefs::build::Options { form, ..options() };
    build_into(&dir.join("root"), &dir.join("one"), "v1", &options);
    dir.join("one")
}

/// Pulls `v1` of `remote` lazily as `dir:tag`.
fn lazily(remote: &dyn Remote, filler: Arc<dyn Remote>, dir: &Path, tag: &str) -> Result<Report> {
    let found = find(remote, &name("v1"), &Platform::here())?;
    let layout = Layout::open_or_create(dir)?;
    let origins = Origins::only(filler);
    found.pull_lazy(
        &layout,
        tag,
        &["oci:/elsewhere:v1".into()],
        origins,
        None,
        &Silent,
    )
}

/// The same of the layout `from`, honestly.
fn pull_lazily(from: &Path, dir: &Path, tag: &str) -> Report {
    let liar = Liar::new(from, Lie::None);
    lazily(&liar, local(from), dir, tag).unwrap()
}

fn local(dir: &Path) -> Arc<dyn Remote> {
    Arc::new(Local::new(Layout::open(dir).unwrap()))
}

/// The packs of `dir:tag` of which not all is there.
fn lazy_packs(dir: &Path, tag: &str) -> Vec<Digest> {
    let layout = Layout::open(dir).unwrap();
    lazy_of(&layout, open(dir, tag).manifest_bytes()).unwrap()
}

/// Fetches the rest of `dir:tag`.
fn complete(from: Arc<dyn Remote>, dir: &Path, tag: &str) -> Result<puzzlefs::lazy::fill::Report> {
    let layout = Layout::open(dir).unwrap();
    let packs = lazy_packs(dir, tag);
    fill(
        &layout,
        &packs,
        None,
        Vec::new(),
        Origins::only(from),
        &Silent,
    )
}

fn here(dir: &Path) -> (u64, u64) {
    let status = status(&Layout::open(dir).unwrap()).unwrap();
    let all = status.images.iter().flat_map(|image| &image.lazy);
    all.fold((0, 0), |(here, all), pack| {
        (here + pack.chunks_here, all + pack.chunks)
    })
}

/// A mount may have a lazy pack open that was removed, and pulled again. What comes for the old file is not in the new
/// one.
#[test]
fn a_file_without_a_name_has_no_record() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let (layout, pack) = (Layout::open(&to).unwrap(), lazy_packs(&to, "v1")[0]);
    let open = |path| File::options().read(true).write(true).open(path).unwrap();
    let old = open(layout.blob_path(&pack));
    remove(&layout, &crate::common::pulls::name("v1"), true, &Silent).unwrap();
    pull_lazily(&from, &to, "v1");
    let (before, packs) = (here(&to), lazy_packs(&to, "v1"));
    let present = Presence::load(&layout, &pack).unwrap().unwrap();
    let end = Pack::open(&layout, &pack).unwrap().unwrap().end;
    let present = Presence::none(&pack, &end, present.sources);
    let nameless = Pack::nameless(&layout, present, old.try_clone().unwrap()).unwrap();
    let whole = fs::read(from.join(format!("blobs/sha256/{pack}"))).unwrap();
    let count = nameless.end.entries.len();
    for number in 0..count {
        let chunk = nameless.chunk(number).unwrap();
        let start = chunk.offset as usize;
        let bytes = &whole[start..start + chunk.size as usize];
        nameless.write(number, bytes).unwrap();
    }
    nameless.sync().unwrap();
    nameless.record(&(0..count).collect::<Vec<_>>()).unwrap();
    nameless.finish().unwrap();
    let mut written = vec![0; whole.len()];
    old.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written, whole);
    assert_eq!((here(&to), lazy_packs(&to, "v1")), (before, packs));
    complete(local(&from), &to, "v1").unwrap();
    assert_whole(&to);
}

/// The same of one that had its name when it was opened: the record that is there by now is of another file.
#[test]
fn a_file_that_lost_its_name_has_no_record() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let (layout, digest) = (Layout::open(&to).unwrap(), lazy_packs(&to, "v1")[0]);
    let old = Pack::open(&layout, &digest).unwrap().unwrap();
    assert!(old.recorded().is_some() && !old.is_replaced());
    remove(&layout, &crate::common::pulls::name("v1"), true, &Silent).unwrap();
    assert!(old.recorded().is_none());
    pull_lazily(&from, &to, "v1");
    let (before, packs) = (here(&to), lazy_packs(&to, "v1"));
    let whole = fs::read(from.join(format!("blobs/sha256/{digest}"))).unwrap();
    let count = old.end.entries.len();
    for number in 0..count {
        let chunk = old.chunk(number).unwrap();
        let start = chunk.offset as usize;
        old.write(number, &whole[start..start + chunk.size as usize])
            .unwrap();
        assert!(old.read(number).is_some());
    }
    old.sync().unwrap();
    old.record(&(0..count).collect::<Vec<_>>()).unwrap();
    old.finish().unwrap();
    assert!(old.recorded().is_none() && !old.is_replaced());
    assert_eq!((here(&to), lazy_packs(&to, "v1")), (before, packs));
    complete(local(&from), &to, "v1").unwrap();
    assert!(old.is_replaced());
    assert_whole(&to);
}

/// Two pulls of one image at once: neither replaces what the other one has begun to fill.
#[test]
fn two_at_once_are_one_after_the_other() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    std::thread::scope(|scope| {
        for tag in ["a", "b", "c", "d"] {
            let (from, to) = (&from, &to);
            scope.spawn(move || {
                pull_lazily(from, to, tag);
                complete(local(from), to, tag).unwrap();
            });
        }
    });
    assert_eq!(lazy_packs(&to, "a"), []);
    assert_whole(&to);
}

#[test]
fn only_metadata_come() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    let liar = Liar::new(&from, Lie::None);
    let report = lazily(&liar, local(&from), &to, "v1").unwrap();
    let asked = liar.asked.lock().unwrap().clone();
    let packs = lazy_packs(&to, "v1");
    assert!(packs.len() > 5, "{} packs", packs.len());
    // Of data packs nothing but the end was asked for.
    let layout = Layout::open(&to).unwrap();
    for pack in &packs {
        let size = layout.blob_size(pack).unwrap().unwrap();
        let ranges: Vec<_> = asked.iter().filter(|(digest, _)| digest == pack).collect();
        assert!(
            matches!(&ranges[..], [(_, range)] if range.end == size && size - range.start <= 8192)
        );
    }
    let all: u64 = blobs(&from).values().sum();
    assert!(
        report.bytes_fetched < all / 20,
        "{} of {all} bytes",
        report.bytes_fetched
    );
    assert!(
        report.requests <= 2 * packs.len() as u64 + 6,
        "{} requests",
        report.requests
    );
    assert!(!report.complete);
    // It is the same image, under its own digest, and its metadata can be read.
    assert_eq!(manifest(&to, "v1"), manifest(&from, "v1"));
    assert!(open(&to, "v1").lookup(b"/small/7").is_ok());
    assert_eq!(here(&to).0, 0);
    // Sparse files under the right names.
    let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    for pack in &packs {
        let path = to.join("blobs/sha256").join(pack.to_string());
        assert!(blocks(&path) * 512 <= 16 << 10, "{} blocks", blocks(&path));
    }
    // A second one asks for next to nothing.
    let again = pull_lazily(&from, &to, "again");
    assert!(again.requests <= 2, "{} requests", again.requests);
}

#[test]
fn what_is_missing_comes_and_is_what_it_should_be() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let report = complete(local(&from), &to, "v1").unwrap();
    let packs = report.packs;
    assert!(
        report.requests <= 4 * packs,
        "{} requests for {packs} packs",
        report.requests
    );
    assert_eq!(lazy_packs(&to, "v1"), []);
    assert_eq!(blobs(&to), blobs(&from));
    assert_whole(&to);
    assert_eq!(faults(&to, "v1"), Vec::<String>::new());
    assert_eq!(fs::read_dir(to.join("puzzlefs-lazy")).unwrap().count(), 0);
}

#[test]
fn no_tool_takes_what_is_missing_for_damage() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let layout = Layout::open(&to).unwrap();
    let refused = |result: Result<()>, what: &str| {
        let error = result.expect_err(what);
        let text = format!("{error:#}");
        assert!(!matches!(error, Error::Damaged(_)), "{what}: {text}");
        assert!(
            text.contains("puzzlefs complete") && text.contains("pack sha256:"),
            "{what}: {text}"
        );
        assert!(!text.contains("damaged"), "{what}: {text}");
    };
    // What can be known of it is.
    let report = verify(&open(&to, "v1"), &Silent).unwrap();
    assert!(report.is_sound(), "{:?} {:?}", report.errors, report.unread);
    assert!(
        report.lazy_packs > 5 && report.missing_chunks > 20,
        "{report:?}"
    );
    let (lazy, whole) = (
        inspect(&open(&to, "v1")).unwrap(),
        inspect(&open(&from, "v1")).unwrap(),
    );
    assert_eq!(
        (lazy.chunks, lazy.stored_bytes, lazy.data_bytes),
        (whole.chunks, whole.stored_bytes, whole.data_bytes)
    );
    assert!(lazy.contents.is_none() && whole.contents.is_some());
    assert!(du(&layout).unwrap().faults.broken.is_empty());
    // What needs all of it says so.
    let target = dir.path().join("out");
    let image = open(&to, "v1");
    refused(
        extract::extract(&image, &target, &Silent).map(drop),
        "extract",
    );
    let mut out = Vec::new();
    refused(
        puzzlefs::export::tar(&image, &mut out, &Silent).map(drop),
        "export",
    );
    refused(
        convert::repack(&layout, &[name("v1")], DEFAULT_TARGET, 10, &Silent).map(drop),
        "repack",
    );
    refused(
        convert::unpack(&layout, &[name("v1")], &Silent).map(drop),
        "unpack",
    );
    refused(
        pull_from(
            &Local::new(layout.clone()),
            &name("v1"),
            &dir.path().join("third"),
            "v1",
        )
        .map(drop),
        "pull from it",
    );
    let on_top = puzzlefs::build::Options {
        base: Some(name("v1")),
        ..options()
    };
    refused(
        puzzlefs::build::build(&dir.path().join("root"), &layout, "v2", &on_top, &Silent).map(drop),
        "a delta",
    );
    // Nothing of all that has changed it.
    assert_eq!(here(&to).0, 0);
}

#[test]
fn nothing_is_shared_that_is_not_there() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let packs: HashSet<Digest> = lazy_packs(&to, "v1").into_iter().collect();
    let open_before = File::open(
        to.join("blobs/sha256")
            .join(packs.iter().next().unwrap().to_string()),
    )
    .unwrap();
    // A build of the same tree in packs of another size has all its chunks in packs of its own.
    let other = puzzlefs::build::Options {
        form: Form::Packs { target: 3 << 20 },
        ..options()
    };
    build_into(&dir.path().join("root"), &to, "built", &other);
    assert_eq!(faults(&to, "built"), Vec::<String>::new());
    let listed = puzzlefs::image::Image::listed(
        &Layout::open(&to).unwrap(),
        open(&to, "built").manifest_digest(),
    );
    assert!(listed.unwrap().iter().all(|layer| !packs.contains(layer)));
    assert_eq!(lazy_packs(&to, "v1").len(), packs.len());
    // One of the same packs makes them whole, and who has the old file open keeps that.
    let same = puzzlefs::build::Options {
        form: Form::Packs { target: TARGET },
        ..options()
    };
    let whole = dir.path().join("whole");
    pull_lazily(&from, &whole, "v1");
    build_into(&dir.path().join("root"), &whole, "built", &same);
    assert_eq!(lazy_packs(&whole, "v1"), []);
    assert_eq!(faults(&whole, "v1"), Vec::<String>::new());
    assert_whole(&whole);
    let mut byte = [7];
    open_before.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [0]);
    // A pull that wants all does the same.
    pull_from(&Liar::new(&from, Lie::None), &name("v1"), &to, "all").unwrap();
    assert_eq!(faults(&to, "all"), Vec::<String>::new());
}

#[test]
fn garbage_goes_with_its_records() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let layout = Layout::open(&to).unwrap();
    assert!(gc(&layout, false, &Silent).unwrap().removed.is_empty());
    complete(local(&from), &to, "v1").unwrap();
    assert_whole(&to);
    pull_lazily(&from, &dir.path().join("other"), "v1");
    let other = Layout::open(&dir.path().join("other")).unwrap();
    let count = |layout: &Layout| layout.lazy_packs().unwrap().len();
    assert!(count(&other) > 5);
    // A record of what never came is garbage, too.
    let orphan = dir.path().join("other/puzzlefs-lazy").join("0".repeat(64));
    fs::write(&orphan, "{}").unwrap();
    gc(&other, false, &Silent).unwrap();
    assert!(!orphan.exists());
    assert!(count(&other) > 5);
    remove(&other, &name("v1"), true, &Silent).unwrap();
    assert_eq!((count(&other), other.blobs().unwrap().len()), (0, 0));
}

/// A source that ends after some requests; what came until then is there, and recorded.
#[test]
fn an_interrupted_one_goes_on() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let count = lazy_packs(&to, "v1").len();
    let mut liar = Liar::new(&from, Lie::None);
    liar.fails_after = 3;
    let error = complete(Arc::new(liar), &to, "v1").unwrap_err();
    assert!(
        format!("{error:#}").contains("the line is cut"),
        "{error:#}"
    );
    let left = lazy_packs(&to, "v1").len();
    assert!(0 < left && left < count, "{left} of {count} packs");
    let report = verify(&open(&to, "v1"), &Silent).unwrap();
    assert!(report.is_sound() && report.missing_chunks > 0, "{report:?}");
    let rest = Arc::new(Liar::new(&from, Lie::None));
    let remote: Arc<dyn Remote> = rest.clone();
    complete(remote, &to, "v1").unwrap();
    assert_eq!(faults(&to, "v1"), Vec::<String>::new());
    assert_whole(&to);
}

#[test]
fn a_source_that_lies_leaves_nothing_wrong() {
    let dir = scratch();
    let from = source(dir.path());
    for lie in [Lie::WrongByte, Lie::Short, Lie::Shifted] {
        let to = dir.path().join(format!("{lie:?}"));
        pull_lazily(&from, &to, "v1");
        assert!(
            complete(Arc::new(Liar::new(&from, lie)), &to, "v1").is_err(),
            "{lie:?}"
        );
        // What was said to be there is, and nothing else was written.
        let report = verify(&open(&to, "v1"), &Silent).unwrap();
        assert!(
            report.is_sound() && report.missing_chunks > 0,
            "{lie:?}: {report:?}"
        );
        complete(local(&from), &to, "v1").unwrap();
        assert_eq!(faults(&to, "v1"), Vec::<String>::new(), "{lie:?}");
    }
    // One that gives more than it should does no harm, and one that gives all is asked for all once.
    for lie in [Lie::Endless, Lie::Whole] {
        let to = dir.path().join(format!("{lie:?}"));
        pull_lazily(&from, &to, "v1");
        complete(Arc::new(Liar::new(&from, lie)), &to, "v1").unwrap();
        assert_whole(&to);
    }
}

#[test]
fn a_record_that_lies_costs_an_error_and_no_more() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    pull_lazily(&from, &to, "v1");
    let pack = lazy_packs(&to, "v1")[0];
    let path = to.join("puzzlefs-lazy").join(pack.to_string());
    let text = fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    // All is there, it says.
    let bits = record["present"].as_str().unwrap().replace('0', "f");
    record["present"] = bits.into();
    fs::write(&path, record.to_string()).unwrap();
    let report = verify(&open(&to, "v1"), &Silent).unwrap();
    assert!(!report.is_sound());
    assert!(complete(local(&from), &to, "v1").is_err());
    // Records that make no sense are of nothing that is there.
    for bad in [
        "",
        "{}",
        "[]",
        &text[1..],
        &text.replace(&pack.to_string(), &"0".repeat(64)),
        &text.replace("\"present\":\"", "\"present\":\"00"),
    ] {
        fs::write(&path, bad).unwrap();
        let report = verify(&open(&to, "v1"), &Silent).unwrap();
        assert!(
            report.is_sound() && report.missing_chunks > 0,
            "{bad}: {report:?}"
        );
        assert!(complete(local(&from), &to, "v1").is_err(), "{bad}");
        pull_lazily(&from, &to, "v1");
        let report = status(&Layout::open(&to).unwrap()).unwrap();
        assert!(!report.images[0].lazy.is_empty(), "{bad}");
    }
    complete(local(&from), &to, "v1").unwrap();
    assert_whole(&to);
    // Another index than the record is of.
    pull_lazily(&from, &dir.path().join("third"), "v1");
    let file = dir.path().join("third/blobs/sha256").join(pack.to_string());
    let file = File::options().write(true).open(file).unwrap();
    let size = file.metadata().unwrap().len();
    file.write_all_at(&[255; 32], size - 8 - 40).unwrap();
    let error = complete(local(&from), &dir.path().join("third"), "v1").unwrap_err();
    assert!(format!("{error:#}").contains("another end"), "{error:#}");
}
