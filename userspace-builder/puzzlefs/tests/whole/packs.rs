// SPDX-License-Identifier: Apache-2.0
//! Packs: what a build puts into them, what it takes from them, and packs that lie.

use std::fs;
use std::num::NonZero;
use std::path::Path;

use crate::common::layout::{blobs, packs, store};
use crate::common::{build_into, everything, faults, loose, noise, open, options, scratch};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::base::verity::measure;
use puzzlefs::build::{build, Options};
use puzzlefs::chunks::pack;
use puzzlefs::chunks::sink::Form;
use puzzlefs::encode::chunker::Policy;
use puzzlefs::layout::manifest::{with_layers, Descriptor};
use puzzlefs::layout::Layout;
use puzzlefs::upkeep::convert;
use puzzlefs_format::{Digest, PackEntry, PackTrailer, ANNOTATION_FS_VERITY, MEDIA_TYPE_PACK};

fn packs_of(target: u64) -> Options {
    Options {
        form: Form::Packs { target },
        ..options()
    }
}

#[test]
fn the_same_tree_gives_the_same_packs() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    // Equal chunks that are being compressed at the same time.
    for i in 0..40 {
        fs::write(root.join(format!("twin{i}")), noise(50_000, i / 4)).unwrap();
    }
    let layouts = [1, 2, 7, 7, 7].iter().enumerate().map(|(run, threads)| {
        let layout = dir.path().join(format!("layout{run}"));
        let threads = NonZero::new(*threads);
        let options = Options {
            threads,
            ..packs_of(200_000)
        };
        build_into(&root, &layout, "tag", &options);
        assert_eq!(faults(&layout, "tag"), [""; 0]);
        blobs(&layout)
    });
    let layouts: Vec<_> = layouts.collect();
    assert!(layouts[0].len() > 10, "{} blobs", layouts[0].len());
    assert!(layouts.iter().all(|blobs| *blobs == layouts[0]));
}

#[test]
fn chunks_that_packs_hold_are_not_stored_again() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "v1", &packs_of(200_000));
    fs::write(root.join("new"), noise(100_000, 99)).unwrap();
    let report = build_into(&root, &layout, "v2", &options());
    assert!(report.new_bytes < 180_000, "{} new bytes", report.new_bytes);
    let (old, new) = (packs(&layout, "v1"), packs(&layout, "v2"));
    // That of the new metadata, and that of the new file.
    assert_eq!(new.iter().filter(|pack| !old.contains(pack)).count(), 2);
    // Nothing of the packs that it does not need.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), noise(100_000, 99)).unwrap();
    build_into(&other, &layout, "v3", &options());
    assert_eq!(packs(&layout, "v3").len(), 1);
    assert!(new.contains(&packs(&layout, "v3")[0]));
    for tag in ["v1", "v2", "v3"] {
        assert_eq!(faults(&layout, tag), [""; 0]);
    }
}

#[test]
fn loose_chunks_of_the_layout_are_used() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "loose", &loose());
    let report = build_into(&root, &layout, "packs", &options());
    assert_eq!((report.new_blobs, report.packs), (0, 0));
    fs::write(root.join("new"), noise(100_000, 99)).unwrap();
    let report = build_into(&root, &layout, "packs", &options());
    assert_eq!(report.packs, 2);
    assert_eq!(faults(&layout, "packs"), [""; 0]);
    // And not the other way round: upstream knows no packs.
    assert_eq!(build_into(&root, &layout, "loose", &loose()).packs, 0);
    assert_eq!(faults(&layout, "loose"), [""; 0]);
}

/// Images that were built apart share packs in a registry.
#[test]
fn packs_agree_again_after_a_difference() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    for i in 0..300 {
        fs::write(root.join(format!("{i:03}")), noise(40_000, i)).unwrap();
    }
    build_into(&root, &dir.path().join("a"), "tag", &packs_of(500_000));
    fs::write(root.join("000a"), noise(40_000, 1000)).unwrap();
    build_into(&root, &dir.path().join("b"), "tag", &packs_of(500_000));
    let a = packs(&dir.path().join("a"), "tag");
    let b = packs(&dir.path().join("b"), "tag");
    let common = b.iter().filter(|pack| a.contains(pack)).count();
    assert!(common * 2 > a.len(), "{common} of {} packs", a.len());
    let sizes = blobs(&dir.path().join("a"));
    let sizes: Vec<u64> = a.iter().map(|pack| sizes[&pack.to_string()]).collect();
    // All but the last one.
    for size in &sizes[..sizes.len() - 1] {
        assert!((250_000..1_100_000).contains(size), "{sizes:?}");
    }
}

/// Writes `entries` and `chunks` as a pack, which takes the place of the only one of `dir:tag`.
fn replace_pack(dir: &Path, tag: &str, chunks: &[u8], entries: &[PackEntry]) -> Digest {
    let mut bytes = chunks.to_vec();
    entries.iter().for_each(|e| bytes.extend(e.to_bytes()));
    bytes.extend(PackTrailer::to_bytes(entries.len() as u32));
    let (pack, size) = store(dir, &bytes);
    let layers = [Descriptor::new(MEDIA_TYPE_PACK, pack, size)];
    let manifest = with_layers(open(dir, tag).manifest_bytes(), &layers).unwrap();
    let (manifest, size) = store(dir, &manifest);
    let layout = Layout::open(dir).unwrap();
    layout.set_tag(tag, &manifest, size).unwrap();
    pack
}

/// A layout with an image in one pack: its chunks, and the entries of its index.
fn one_pack(root: &Path, layout: &Path) -> (Vec<u8>, Vec<PackEntry>) {
    fs::create_dir(root).unwrap();
    for i in 0..5 {
        fs::write(root.join(format!("file{i}")), noise(50_000, i)).unwrap();
    }
    build_into(root, layout, "tag", &options());
    let (_, entries) =
        pack::open(&Layout::open(layout).unwrap(), &packs(layout, "tag")[0]).unwrap();
    let path = layout
        .join("blobs/sha256")
        .join(packs(layout, "tag")[0].to_string());
    let mut chunks = fs::read(path).unwrap();
    chunks.truncate(chunks.len() - PackTrailer::BYTES - entries.len() * PackEntry::BYTES);
    (chunks, entries)
}

#[test]
fn verify_finds_indexes_that_lie() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    let (chunks, good) = one_pack(&root, &layout);
    let check = |entries: &[PackEntry], want: &[&str]| {
        replace_pack(&layout, "tag", &chunks, entries);
        let found = faults(&layout, "tag").join("\n");
        assert!(want.iter().all(|w| found.contains(w)), "{want:?}: {found}");
        assert_eq!(found.is_empty(), want.is_empty(), "{found}");
    };
    check(&good, &[]);
    let mut swapped = good.clone();
    swapped.swap(1, 3);
    check(&swapped, &["not in ascending order"]);
    let mut twice = good.clone();
    twice.insert(2, good[1]);
    check(&twice, &["chunks overlap"]);
    let mut lying = good.clone();
    (lying[1].offset, lying[2].offset) = (good[2].offset, good[1].offset);
    check(
        &lying,
        &["is not where its index says", &good[1].digest.to_string()],
    );
    let missing = good[..4].to_vec();
    check(
        &missing,
        &[
            "cannot open the blob",
            &good[4].digest.to_string(),
            "not listed",
        ],
    );
    // What is there and not used is no fault.
    let extra = [&chunks[..], &noise(1000, 99)].concat();
    let mut more = good.clone();
    more.push(PackEntry {
        digest: sha256(&[&noise(1000, 99)]),
        offset: chunks.len() as u32,
        size: 1000,
    });
    more.sort_by_key(|entry| entry.digest);
    replace_pack(&layout, "tag", &extra, &more);
    let report = puzzlefs::verify::verify(&open(&layout, "tag"), &Silent).unwrap();
    assert_eq!((report.errors.len(), report.unused_bytes), (0, 1000));
    // Unless it is not what the index says: another image would find that.
    more.iter_mut()
        .filter(|entry| entry.size == 1000)
        .for_each(|entry| entry.size = 999);
    replace_pack(&layout, "tag", &extra, &more);
    let found = faults(&layout, "tag").join("\n");
    assert!(found.contains("is not where its index says"), "{found}");
}

/// What the manifest of a tag says of its packs: their fs-verity digests.
fn annotations(layout: &Path, tag: &str) -> Vec<(Digest, Option<Digest>)> {
    let image = open(layout, tag);
    let manifest = image.manifest().unwrap();
    let layers = manifest.layers().map(Result::unwrap);
    let packs = layers.filter(|layer| layer.media_type == MEDIA_TYPE_PACK);
    packs.map(|pack| (pack.digest, pack.fs_verity)).collect()
}

/// Checks them; says how many packs there are.
fn all_are_measured(layout: &Path, tag: &str) -> usize {
    let found = annotations(layout, tag);
    for (pack, verity) in &found {
        let bytes = fs::read(layout.join("blobs/sha256").join(pack.to_string())).unwrap();
        let want = Digest::from_bytes(measure(&bytes));
        assert_eq!(*verity, Some(want), "the pack {pack} of {tag}");
    }
    assert_eq!(faults(layout, tag), [""; 0]);
    found.len()
}

#[test]
fn manifests_say_the_fs_verity_digests_of_packs() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "new", &packs_of(200_000));
    assert!(all_are_measured(&layout, "new") > 2);
    fs::write(root.join("new"), noise(100_000, 99)).unwrap();
    build_into(&root, &layout, "held", &options());
    assert!(all_are_measured(&layout, "held") > 2);
    // An image that was built before there were such digests gets them by being repacked.
    let image = open(&layout, "held");
    let text = String::from_utf8(image.manifest_bytes().to_vec()).unwrap();
    let old = text.replace(ANNOTATION_FS_VERITY, "org.example.other");
    let (manifest, size) = store(&layout, old.as_bytes());
    let opened = Layout::open(&layout).unwrap();
    opened.set_tag("held", &manifest, size).unwrap();
    assert!(annotations(&layout, "held")
        .iter()
        .all(|(_, v)| v.is_none()));
    assert_eq!(faults(&layout, "held"), [""; 0]);
    convert::repack(&opened, &["held".parse().unwrap()], 200_000, 10, &Silent).unwrap();
    all_are_measured(&layout, "held");
    // One that is not that of the pack.
    let (_, verity) = annotations(&layout, "held")[0];
    let verity = verity.unwrap().to_string();
    let text = open(&layout, "held").manifest_bytes().to_vec();
    let text = String::from_utf8(text).unwrap();
    let (manifest, size) = store(&layout, text.replace(&verity, &"0".repeat(64)).as_bytes());
    opened.set_tag("held", &manifest, size).unwrap();
    let found = faults(&layout, "held").join("\n");
    assert!(found.contains("another fs-verity digest"), "{found}");
}

/// An old pack that lies, or is damaged, must not become part of a new image.
#[test]
fn a_build_does_not_rely_on_a_bad_pack() {
    for damage in [
        "a lie of the index",
        "damaged bytes",
        "a lie beside the truth",
        "a lie about what is not used",
    ] {
        let dir = scratch();
        let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
        let (mut chunks, mut entries) = one_pack(&root, &layout);
        let good = packs(&layout, "tag");
        // The chunk of the last file: the others are found to be right before.
        let last = entries
            .iter()
            .enumerate()
            .max_by_key(|(_, e)| e.offset)
            .unwrap()
            .0;
        match damage {
            "damaged bytes" => chunks[entries[last].offset as usize] ^= 1,
            // Whoever mounts by fs-verity takes the index for true.
            "a lie about what is not used" => {
                entries.push(PackEntry {
                    digest: sha256(&[b"another image's"]),
                    offset: u32::try_from(chunks.len()).unwrap(),
                    size: 1000,
                });
                entries.sort_by_key(|entry| entry.digest);
                chunks.extend(noise(1000, 99));
            }
            _ => entries[last].offset -= 1,
        }
        let bad = replace_pack(&layout, "tag", &chunks, &entries);
        if damage == "a lie beside the truth" {
            // The first one's bytes are held by the bad pack alone, the last one's by both.
            fs::write(root.join("good"), "").unwrap();
            build_into(&root, &layout, "good", &options());
        } else {
            good.iter().for_each(|pack| {
                fs::remove_file(layout.join("blobs/sha256").join(pack.to_string())).unwrap()
            });
        }
        build_into(&root, &layout, "new", &options());
        assert_eq!(faults(&layout, "new"), [""; 0], "{damage}");
        assert!(!packs(&layout, "new").contains(&bad), "{damage}");
        assert!(!faults(&layout, "tag").is_empty());
    }
}

#[test]
fn more_packs_than_a_reader_takes_are_refused() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(30 << 20, 1)).unwrap();
    let options = Options {
        policy: Policy::new(4096).unwrap(),
        ..packs_of(1)
    };
    let layout = Layout::open_or_create(&layout).unwrap();
    let error = build(&root, &layout, "tag", &options, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("--pack-size"), "{error:#}");
}
