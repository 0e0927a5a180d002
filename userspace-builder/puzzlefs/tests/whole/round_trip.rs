// SPDX-License-Identifier: Apache-2.0
//! What is built comes out again.

use std::fs;
use std::path::Path;

use crate::common::{
    assert_same_tree, build_into, everything, faults, noise, open, options, scratch,
};
use puzzlefs::base::progress::Silent;
use puzzlefs::build::profile::Profile;
use puzzlefs::build::{build, Options};
use puzzlefs::encode::compress::Compression;
use puzzlefs::layout::Layout;
use puzzlefs_format::Kind;

/// Builds `root` and extracts the image beside it.
fn round_trip(root: &Path, dir: &Path, tag: &str, options: &Options) {
    let layout = dir.join("layout");
    build_into(root, &layout, tag, options);
    assert_eq!(faults(&layout, tag), [""; 0]);
    let target = dir.join(format!("out-{tag}"));
    puzzlefs::extract::extract(&open(&layout, tag), &target, &Silent).unwrap();
    assert_same_tree(root, &target);
}

#[test]
fn everything_comes_out_again() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    round_trip(&root, dir.path(), "zstd", &options());
    round_trip(
        &root,
        dir.path(),
        "raw",
        &Options {
            compression: Compression::default(),
            ..options()
        },
    );
    let mut frames = Compression::zstd(1);
    frames.zstd.as_mut().unwrap().frame = Some(4096);
    round_trip(
        &root,
        dir.path(),
        "frames",
        &Options {
            compression: frames,
            ..options()
        },
    );
    round_trip(
        &root,
        dir.path(),
        "lz4",
        &Options {
            compression: Compression::lz4(12),
            ..options()
        },
    );
    round_trip(
        &root,
        dir.path(),
        "batches",
        &Options {
            policy: Profile::Small.policy(Some(4096)).unwrap(),
            ..options()
        },
    );
    round_trip(
        &root,
        dir.path(),
        "verity",
        &Options {
            fs_verity: true,
            ..options()
        },
    );
}

/// What lets readers find names by bisection and inodes by their index.
#[test]
fn names_are_sorted_and_numbers_dense() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &dir.path().join("layout"), "tag", &options());
    let image = open(&dir.path().join("layout"), "tag");
    let vector = image.rootfs().unwrap().vector(0).unwrap();
    let mut directories = 0;
    for index in 0..vector.len() {
        let inode = vector.get(index).unwrap().unwrap();
        assert_eq!(inode.ino(), u64::from(index) + 1);
        if let Kind::Dir(dir) = inode.kind().unwrap() {
            assert!(dir.is_sorted().unwrap());
            directories += 1;
        }
    }
    assert_eq!(directories, 8);
}

#[test]
fn an_empty_tree() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    round_trip(&root, dir.path(), "empty", &options());
}

/// Paths far beyond PATH_MAX, which no single system call takes.
#[test]
fn a_very_deep_tree() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let name = "d".repeat(200);
    let mut at = fs::File::open(&root).unwrap();
    for _ in 0..50 {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkdirat(&at, &name, mode).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, &name, flags, mode).unwrap().into();
    }
    rustix::fs::symlinkat("target", &at, "link").unwrap();
    let layout = dir.path().join("layout");
    let report = build_into(&root, &layout, "deep", &options());
    assert_eq!(report.inodes, 52);
    puzzlefs::extract::extract(&open(&layout, "deep"), &dir.path().join("out"), &Silent).unwrap();
    build_into(&dir.path().join("out"), &layout, "again", &options());
    let digest = |tag| *open(&layout, tag).rootfs_digest();
    assert_eq!(digest("deep"), digest("again"));
}

/// Each profile's image is whole, and of the lowest version that it can be.
#[test]
fn profiles() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    // zstd makes a sixteenth of one less than LZ4 does, and a quarter of the other.
    fs::write(root.join("zeros"), vec![b'z'; 100_000]).unwrap();
    let digits: Vec<u8> = noise(300_000, 1)
        .iter()
        .map(|byte| b'0' + byte % 8)
        .collect();
    fs::write(root.join("digits"), digits).unwrap();
    for (tag, profile, version) in [
        ("small", Profile::Small, 3),
        ("balanced", Profile::Balanced, 5),
        ("fast", Profile::Fast, 5),
    ] {
        let options = Options {
            policy: profile.policy(None).unwrap(),
            compression: profile.compression(),
            ..options()
        };
        round_trip(&root, dir.path(), tag, &options);
        let image = open(&dir.path().join("layout"), tag);
        assert_eq!(image.rootfs().unwrap().version(), version, "{tag}");
        let report = puzzlefs::reports::inspect::inspect(&image).unwrap();
        assert_eq!(report.compressed_chunks, report.chunks);
        assert_eq!(report.contents.unwrap().lz4_chunks > 0, version == 5);

        let compat = Options {
            compat: true,
            ..options
        };
        round_trip(&root, dir.path(), &format!("{tag}-compat"), &compat);
        let image = open(&dir.path().join("layout"), &format!("{tag}-compat"));
        assert_eq!(image.rootfs().unwrap().version(), 3, "{tag}");
    }
    let options = Options {
        compat: true,
        compression: Compression::lz4(1),
        ..options()
    };
    let layout = Layout::open_or_create(&dir.path().join("layout")).unwrap();
    let error = build(&root, &layout, "lz4", &options, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("--compat"), "{error:#}");
}

#[test]
fn compat_stores_holes_as_zeros() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::File::create(root.join("hole"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    let layout = dir.path().join("layout");
    for (tag, compat, version) in [("holes", false, 4), ("compat", true, 3)] {
        build_into(
            &root,
            &layout,
            tag,
            &Options {
                compat,
                ..options()
            },
        );
        assert_eq!(open(&layout, tag).rootfs().unwrap().version(), version);
    }
    let target = dir.path().join("out");
    puzzlefs::extract::extract(&open(&layout, "compat"), &target, &Silent).unwrap();
    assert_eq!(fs::read(target.join("hole")).unwrap(), vec![0; 5 << 20]);
}

#[test]
fn the_same_tree_gives_the_same_image() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    let digests: Vec<String> = [1, 2, 7, 7]
        .iter()
        .enumerate()
        .map(|(run, threads)| {
            let layout = dir.path().join(format!("layout{run}"));
            let threads = std::num::NonZero::new(*threads);
            build_into(
                &root,
                &layout,
                "tag",
                &Options {
                    threads,
                    ..options()
                },
            )
            .manifest
        })
        .collect();
    assert!(digests.iter().all(|d| *d == digests[0]), "{digests:?}");
}

#[test]
fn source_date_epoch_is_the_latest_time() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    let layout = dir.path().join("layout");
    let clamped = Options {
        source_date_epoch: Some(1_000_000_000),
        ..options()
    };
    let first = build_into(&root, &layout, "first", &clamped).manifest;
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(root.join("file"), "x").unwrap();
    assert_eq!(
        build_into(&root, &layout, "second", &clamped).manifest,
        first
    );
    let image = open(&layout, "first");
    let mtime = image.lookup(b"file").unwrap().mtime();
    assert_eq!((mtime.sec, mtime.nsec), (1_000_000_000, 0));
    let manifest = String::from_utf8_lossy(image.manifest_bytes()).into_owned();
    assert!(manifest.contains("2001-09-09T01:46:40Z"), "{manifest}");
}

/// Sub-file sharing: a changed file and its old version have most chunks in common.
#[test]
fn versions_share_chunks() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut content = noise(4 << 20, 9);
    fs::write(root.join("file"), &content).unwrap();
    let layout = dir.path().join("layout");
    build_into(&root, &layout, "old", &options());
    content.splice(1_000_000..1_000_000, *b"an insertion");
    fs::write(root.join("file"), &content).unwrap();
    let report = build_into(&root, &layout, "new", &options());
    assert!(report.new_bytes < 600_000, "{} new bytes", report.new_bytes);
    assert_eq!(faults(&layout, "old"), [""; 0]);
}
