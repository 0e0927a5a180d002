// SPDX-License-Identifier: Apache-2.0
//! Access profiles: what they name lies side by side, images list it, and it is fetched first.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::layout::{packs, store};
use crate::common::pulls::{assert_whole, manifest, name, pull_from, tree};
use crate::common::remote::{Liar, Lie};
use crate::common::{build_into, faults, noise, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::convert::convert;
use puzzlefs::build::Options;
use puzzlefs::chunks::list;
use puzzlefs::chunks::pack;
use puzzlefs::chunks::sink::Form;
use puzzlefs::layout::manifest::{render, Config, Descriptor};
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::fill::{fill, lazy_of};
use puzzlefs::lazy::first::First;
use puzzlefs::lazy::{Engine, Origins, Pack, Told};
use puzzlefs::profile::{Part, Profile};
use puzzlefs::pull::complete::complete;
use puzzlefs::pull::find;
use puzzlefs::remote::{Document, Part as Body, Remote};
use puzzlefs::reports::inspect::inspect;
use puzzlefs::source::{self, Platform};
use puzzlefs::upkeep::convert::{repack, repack_by};
use puzzlefs::upkeep::gc::gc;
use puzzlefs::Result;
use puzzlefs_format::{Digest, MEDIA_TYPE_PROFILE, MEDIA_TYPE_ROOTFS};

/// Bytes of packs: several of the image's.
const TARGET: u64 = 1 << 20;
/// What is read first: large files, a small one, the begin of another, and what is not there.
const READ: [(&str, Range<u64>); 12] = [
    ("/033", 0..200_000),
    ("/small/7", 0..10),
    ("/gone", 0..1),
    ("/017", 0..200_000),
    ("/small", 0..1),
    ("/003", 0..1),
    ("/035", 0..200_000),
    ("/005", 0..200_000),
    ("/025", 0..200_000),
    ("/021", 0..200_000),
    ("/031", 0..200_000),
    ("/011", 0..200_000),
];

fn profile(parts: &[(&str, Range<u64>)]) -> Profile {
    let parts = parts.iter().map(|(path, range)| Part {
        path: path.as_bytes().to_vec(),
        range: range.clone(),
    });
    Profile {
        parts: parts.collect(),
    }
}

fn with(first: Option<Profile>) -> Options {
    Options {
        form: Form::Packs { target: TARGET },
        first,
        ..options()
    }
}

/// Builds `dir/one:v1` with such a profile, from `dir/root`.
fn source(dir: &Path) -> PathBuf {
    tree(&dir.join("root"), 40);
    let options = with(Some(profile(&READ)));
    build_into(&dir.join("root"), &dir.join("one"), "v1", &options);
    dir.join("one")
}

/// What `dir:tag` lists.
fn listed(dir: &Path, tag: &str) -> Option<Vec<Digest>> {
    let layout = Layout::open(dir).unwrap();
    list::of_manifest(&layout, open(dir, tag).manifest_bytes()).unwrap()
}

/// The chunks of a pack, in order.
fn chunks_of(dir: &Path, pack: &Digest) -> Vec<Digest> {
    let (_, mut entries) = pack::open(&Layout::open(dir).unwrap(), pack).unwrap();
    entries.sort_by_key(|entry| entry.offset);
    entries.into_iter().map(|entry| entry.digest).collect()
}

/// The pack of `dir:tag` that has what is read first, and nothing else.
fn first_pack(dir: &Path, tag: &str) -> Digest {
    let list = listed(dir, tag).unwrap();
    let mut packs = packs(dir, tag).into_iter();
    packs.find(|pack| chunks_of(dir, pack) == list).unwrap()
}

/// The image lists what it should, which lies in so many packs in its order, with nothing else; and it has each chunk once.
#[track_caller]
fn assert_first(dir: &Path, tag: &str, most: usize) {
    let list = listed(dir, tag).unwrap();
    assert_eq!(list, profile(&READ).in_image(&open(dir, tag)).unwrap());
    assert!(list.len() > 10, "{} chunks", list.len());
    let all = packs(dir, tag).into_iter();
    let all: Vec<Vec<Digest>> = all.map(|pack| chunks_of(dir, &pack)).collect();
    let place = |chunk: &Digest| list.iter().position(|listed| listed == chunk);
    let (first, others): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|pack| pack.iter().any(|chunk| place(chunk).is_some()));
    let count = first.len();
    assert!(
        (1..=most).contains(&count) && others.len() > 4,
        "{count} packs"
    );
    for pack in first {
        assert!(pack.iter().all(|chunk| place(chunk).is_some()));
        assert!(pack.is_sorted_by_key(place));
    }
    let mut seen = HashSet::new();
    assert!(all.iter().flatten().all(|chunk| seen.insert(*chunk)));
    assert_eq!(faults(dir, tag), [""; 0]);
    let report = inspect(&open(dir, tag)).unwrap().profile.unwrap();
    let bytes = report.bytes;
    assert_eq!(report.chunks, list.len() as u64);
    assert!((1_600_000..1_900_000).contains(&bytes), "{bytes} bytes");
    assert_eq!(report.fault, None);
}

#[test]
fn what_is_read_first_lies_side_by_side() {
    let dir = scratch();
    let (one, root) = (source(dir.path()), dir.path().join("root"));
    assert_first(&one, "v1", 1);
    // The image is the same without it, but for its packs.
    let plain = dir.path().join("plain");
    build_into(&root, &plain, "v1", &with(None));
    assert_eq!(
        open(&plain, "v1").rootfs_digest(),
        open(&one, "v1").rootfs_digest()
    );
    assert_eq!(listed(&plain, "v1"), None);
    assert!(inspect(&open(&plain, "v1")).unwrap().profile.is_none());
    // A tar of the tree becomes the same.
    let tar = dir.path().join("root.tar");
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "--format=pax", "-cf"]);
    assert!(command
        .arg(&tar)
        .arg("-C")
        .arg(&root)
        .arg(".")
        .status()
        .unwrap()
        .success());
    let (tar, here) = (source::Name::Tar(tar), Platform::here());
    let image = source::open(&tar, &here, &Default::default()).unwrap();
    let layout = Layout::open_or_create(&dir.path().join("tar")).unwrap();
    convert(&image, &layout, "v1", &with(Some(profile(&READ))), &Silent).unwrap();
    assert_first(layout.path(), "v1", 1);
    assert_eq!(listed(layout.path(), "v1"), listed(&one, "v1"));
    // Built again where all chunks are, in other packs. One that has nothing else is used.
    build_into(&root, &plain, "again", &with(Some(profile(&READ))));
    assert_first(&plain, "again", 2);
    // And what is there is put so.
    let layout = Layout::open(&plain).unwrap();
    let read = profile(&READ);
    repack_by(&layout, &[name("v1")], TARGET, 10, Some(&read), &Silent).unwrap();
    gc(&layout, false, &Silent).unwrap();
    assert_first(&plain, "v1", 2);
    let before = manifest(&plain, "v1");
    repack(&layout, &[], TARGET, 10, &Silent).unwrap();
    assert_first(&plain, "v1", 2);
    assert_eq!(manifest(&plain, "v1"), before);
}

#[test]
fn the_next_version_takes_what_did_not_change() {
    let dir = scratch();
    let (one, root) = (source(dir.path()), dir.path().join("root"));
    fs::write(root.join("003"), noise(200_000, 1_003)).unwrap();
    fs::write(root.join("004"), noise(200_000, 1_004)).unwrap();
    let first = Profile::of_image(&open(&one, "v1")).unwrap();
    build_into(&root, &one, "v2", &with(Some(first)));
    let list = listed(&one, "v2").unwrap();
    let (old, new) = (packs(&one, "v1"), packs(&one, "v2"));
    assert_eq!(list, profile(&READ).in_image(&open(&one, "v2")).unwrap());
    let pack = first_pack(&one, "v1");
    let first = chunks_of(&one, &pack);
    assert!(old.contains(&pack) && new.contains(&pack));
    let only: Vec<Digest> = list
        .iter()
        .filter(|chunk| !first.contains(chunk))
        .copied()
        .collect();
    assert_eq!(only.len(), 1);
    assert!(new.iter().any(|pack| chunks_of(&one, pack) == only));
    assert_eq!(faults(&one, "v2"), [""; 0]);
}

/// The list goes where the image goes.
#[test]
fn images_keep_their_lists() {
    let dir = scratch();
    let one = source(dir.path());
    let list = listed(&one, "v1");
    let liar = || Liar::new(&one, Lie::None);
    let pulled = dir.path().join("pulled");
    pull_from(&liar(), &name("v1"), &pulled, "v1").unwrap();
    let lazy = dir.path().join("lazy");
    let layout = Layout::open_or_create(&lazy).unwrap();
    let source = liar();
    let found = find(&source, &name("v1"), &Platform::here()).unwrap();
    let origins = || Origins::only(Arc::new(liar()));
    found
        .pull_lazy(
            &layout,
            "v1",
            &["oci:/elsewhere:v1".into()],
            origins(),
            None,
            &Silent,
        )
        .unwrap();
    for layout in [&pulled, &lazy] {
        assert_eq!(listed(layout, "v1"), list);
        gc(&Layout::open(layout).unwrap(), false, &Silent).unwrap();
        assert_eq!(listed(layout, "v1"), list);
    }
    assert_eq!(manifest(&lazy, "v1"), manifest(&one, "v1"));
    // What is listed comes first, by one request.
    let packs = lazy_of(&layout, open(&lazy, "v1").manifest_bytes()).unwrap();
    assert!(packs.len() > 4);
    let source = Arc::new(liar());
    let first = Origins::only(Arc::clone(&source) as Arc<dyn Remote>);
    fill(&layout, &packs, None, list.clone().unwrap(), first, &Silent).unwrap();
    let of_list = first_pack(&one, "v1");
    let asked = source.asked.lock().unwrap().clone();
    // Four ask at the same time: one that began later may be heard before.
    assert!(asked.len() > 4 && asked[..4].iter().any(|(pack, _)| *pack == of_list));
    assert_eq!(asked.iter().filter(|(pack, _)| *pack == of_list).count(), 1);
    assert_whole(&lazy);
    assert_eq!(faults(&lazy, "v1"), [""; 0]);
    // Another list comes before the one of an image that may be signed, and that can be made again.
    let old = manifest(&one, "v1");
    let layout = Layout::open(&one).unwrap();
    let read = profile(&[("/030", 0..1), ("/020", 0..200_000)]);
    let report = repack_by(&layout, &[], TARGET, 10, Some(&read), &Silent).unwrap();
    assert!(report.images[0].origin.as_ref().unwrap().kept);
    gc(&layout, false, &Silent).unwrap();
    let image = open(&one, "v1");
    assert_eq!(listed(&one, "v1").unwrap(), read.in_image(&image).unwrap());
    let layers = image.manifest().unwrap().layers().map(Result::unwrap);
    assert_eq!(
        layers
            .filter(|layer| layer.media_type == MEDIA_TYPE_PROFILE)
            .count(),
        2
    );
    complete(&layout, &name("v1"), None, &Silent).unwrap();
    assert_eq!((manifest(&one, "v1"), listed(&one, "v1")), (old, list));
    assert_whole(&one);
}

/// Waits for all chunks of a list that are read one after the other; gives how many requests there were.
fn requests(dir: &Path, from: &Path, list: &[Digest], knows: bool) -> usize {
    let layout = Layout::open(dir).unwrap();
    let source = Arc::new(Liar::new(from, Lie::None));
    let origins = Origins::only(Arc::clone(&source) as Arc<dyn Remote>);
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let engine = Engine::new(&[], origins, false, move |what| {
        if let Told::Ready(waiter) = what {
            let _ = tell.lock().unwrap().send(waiter);
        }
    });
    let first = First::default();
    let mut places = Vec::new();
    for digest in lazy_of(&layout, open(dir, "v1").manifest_bytes()).unwrap() {
        let pack = Pack::open(&layout, &digest).unwrap().unwrap();
        let entries = pack.end.entries.clone();
        let number = engine.add(pack);
        places.extend(entries.into_iter().map(|entry| (entry, number)));
    }
    if knows {
        assert!(first
            .look(std::slice::from_ref(&layout), &engine)
            .is_empty());
    }
    thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(|| engine.run())));
        for (waiter, chunk) in (0..).zip(list) {
            let (entry, pack) = places
                .iter()
                .find(|(entry, _)| entry.digest == *chunk)
                .unwrap();
            let start = u64::from(entry.offset);
            if !engine.want(*pack, &(start..start + 1), waiter) {
                while told.recv_timeout(Duration::from_secs(60)).unwrap() != waiter {}
            }
        }
        engine.stop();
    });
    engine.keep_all().unwrap();
    let asked = source.asked.lock().unwrap();
    asked.len()
}

#[test]
fn who_reads_the_first_gets_all_that_is_listed() {
    let dir = scratch();
    let one = source(dir.path());
    // The same image, in whose packs all lies where the tree has it.
    let plain = dir.path().join("plain");
    build_into(&dir.path().join("root"), &plain, "v1", &with(None));
    let list = listed(&one, "v1").unwrap();
    let counts = [(&one, "a", true), (&one, "b", false), (&plain, "c", true)];
    let counts = counts.map(|(from, to, knows)| {
        let source = Liar::new(from, Lie::None);
        let found = find(&source, &name("v1"), &Platform::here()).unwrap();
        let to = dir.path().join(to);
        let layout = Layout::open_or_create(&to).unwrap();
        let origins = Origins::only(Arc::new(Liar::new(from, Lie::None)));
        found
            .pull_lazy(
                &layout,
                "v1",
                &["oci:/elsewhere:v1".into()],
                origins,
                None,
                &Silent,
            )
            .unwrap();
        requests(&to, from, &list, knows)
    });
    assert_eq!(counts[0], 1, "{counts:?}");
    assert!(counts[1] > 1 && counts[2] > 3, "{counts:?}");
}

/// A source that takes its time.
struct Slow(Liar);

impl Remote for Slow {
    fn name(&self) -> String {
        "a slow source".into()
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        self.0.manifest(name)
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.0.blob(digest, size)
    }

    fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Body<'_>> {
        match self.0.range(digest, size, range)? {
            Body::Range(body) => Ok(Body::Range(Box::new(Slowly(body, 0)))),
            whole => Ok(whole),
        }
    }
}

/// With the bytes since the last pause.
struct Slowly<'a>(Box<dyn Read + Send + 'a>, usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.1 > 64 << 10 {
            thread::sleep(Duration::from_millis(100));
            self.1 = 0;
        }
        let len = buffer.len().min(64 << 10);
        let read = self.0.read(&mut buffer[..len])?;
        self.1 += read;
        Ok(read)
    }
}

/// Who waits for the end of a long answer waits for a slow source, and not for none.
#[test]
fn what_is_on_its_way_is_not_late() {
    let dir = scratch();
    let one = source(dir.path());
    let to = dir.path().join("to");
    let liar = || Liar::new(&one, Lie::None);
    let remote = liar();
    let found = find(&remote, &name("v1"), &Platform::here()).unwrap();
    let layout = Layout::open_or_create(&to).unwrap();
    let origins = Origins::only(Arc::new(liar()));
    found
        .pull_lazy(
            &layout,
            "v1",
            &["oci:/elsewhere:v1".into()],
            origins,
            None,
            &Silent,
        )
        .unwrap();
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let slow = Origins::only(Arc::new(Slow(liar())));
    let engine = Engine::new(&[], slow, false, move |what| {
        let _ = tell.lock().unwrap().send(what);
    });
    let pack = Pack::open(&layout, &first_pack(&one, "v1"))
        .unwrap()
        .unwrap();
    let (last, count) = (*pack.end.entries.last().unwrap(), pack.end.entries.len());
    let number = engine.add(pack);
    First::default().look(std::slice::from_ref(&layout), &engine);
    let timeout = Duration::from_millis(1500);
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| engine.run());
        let start = u64::from(last.offset);
        let is_here = engine.want(number, &(start..start + 1), 7);
        let mut came = 0;
        let last = loop {
            match told.recv_timeout(Duration::from_millis(50)) {
                Ok(Told::Came(_)) => came += 1,
                Ok(other) => break other,
                Err(_) if begun.elapsed() > Duration::from_secs(60) => break Told::Late(0),
                Err(_) => {}
            }
            engine.expire(timeout);
        };
        engine.stop();
        assert!(matches!(last, Told::Ready(7)), "{last:?}");
        assert_eq!((is_here, came), (false, count - 1));
    });
    assert!(begun.elapsed() > timeout);
}

/// A list may say anything: that costs time.
#[test]
fn a_list_that_lies_does_no_harm() {
    let dir = scratch();
    let one = source(dir.path());
    let image = open(&one, "v1");
    let layout = Layout::open(&one).unwrap();
    let honest = listed(&one, "v1").unwrap();
    let nowhere = puzzlefs::base::digest::sha256(&[b"nowhere"]);
    let lies = [
        list::to_bytes(&[nowhere, honest[3], nowhere, honest[0]]),
        b"no list at all".to_vec(),
        Vec::new(),
    ];
    for (lie, chunks) in lies.iter().zip([2, 0, 0]) {
        let (digest, size) = store(&one, lie);
        let mut layers = Vec::new();
        for layer in image.manifest().unwrap().layers().map(Result::unwrap) {
            let media_type = layer.media_type.to_string();
            layers.push(match media_type == MEDIA_TYPE_PROFILE {
                true => Descriptor::new(&media_type, digest, size),
                false => Descriptor::new(&media_type, layer.digest, layer.size),
            });
        }
        assert!(layers[0].media_type == MEDIA_TYPE_ROOTFS && layers[1].digest == digest);
        let (bad, size) = store(&one, &render(&layers, &Config::default(), None).unwrap());
        layout.set_tag("bad", &bad, size).unwrap();
        let report = inspect(&open(&one, "bad")).unwrap().profile.unwrap();
        assert_eq!(
            (report.chunks, report.fault.is_some()),
            (chunks, chunks == 0)
        );
        assert_eq!(faults(&one, "bad"), [""; 0]);
        repack(&layout, &[name("bad")], TARGET, 10, &Silent).unwrap();
        assert_eq!(faults(&one, "bad"), [""; 0]);
        let to = dir.path().join(format!("to{}", lie.len()));
        let source = Liar::new(&one, Lie::None);
        let found = find(&source, &name("bad"), &Platform::here()).unwrap();
        let there = Layout::open_or_create(&to).unwrap();
        let origins = || Origins::only(Arc::new(Liar::new(&one, Lie::None)));
        found
            .pull_lazy(
                &there,
                "v1",
                &["oci:/elsewhere:v1".into()],
                origins(),
                None,
                &Silent,
            )
            .unwrap();
        let engine = Engine::new(&[], origins(), false, |_| ());
        let faults = First::default().look(std::slice::from_ref(&there), &engine);
        assert_eq!(faults.len(), usize::from(chunks == 0), "{faults:?}");
        let packs = lazy_of(&there, open(&to, "v1").manifest_bytes()).unwrap();
        let list = list::parse(lie).unwrap_or_default();
        fill(&there, &packs, None, list, origins(), &Silent).unwrap();
        assert_whole(&to);
    }
}
