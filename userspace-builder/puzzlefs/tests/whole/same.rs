// SPDX-License-Identifier: Apache-2.0
//! The same tree gives the same bytes, wherever it lies and however it came there.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::common::namespace::in_namespace;
use crate::common::{build_into, everything, loose, noise, options, scratch};
use puzzlefs::build::profile::Profile;
use puzzlefs::build::Options;
use rustix::fs::{fallocate, AtFlags, FallocateFlags, Timespec, Timestamps, CWD};

/// The digest of an image of `root`, in a layout of its own.
fn digest(root: &Path, options: &Options) -> String {
    let dir = scratch();
    build_into(root, &dir.path().join("layout"), "tag", options).manifest
}

fn profiles() -> [Options; 3] {
    let small = Options {
        policy: Profile::Small.policy(None).unwrap(),
        ..options()
    };
    [options(), small, loose()]
}

/// Sets the times of files and directories, the latter last.
fn date(paths: &[PathBuf]) {
    let time = Timespec {
        tv_sec: 1_700_000_000,
        tv_nsec: 123_456_789,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    for path in paths.iter().rev() {
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// A file of data and zeros is the same, whatever of the zeros takes space.
#[test]
fn holes_follow_from_the_content() {
    const SIZE: usize = 6 << 20;
    let pieces = [(0, noise(100_001, 1)), (3 << 20, noise(5000, 2))];
    let dir = scratch();
    let mut digests = Vec::new();
    let kinds = [
        "sparse",
        "dense",
        "reserved",
        "reserved and cached",
        "beyond",
    ];
    for kind in kinds {
        let root = dir.path().join(kind);
        fs::create_dir(&root).unwrap();
        let path = root.join("file");
        let file = File::create(&path).unwrap();
        match kind {
            "dense" => file.write_all_at(&vec![0; SIZE], 0).unwrap(),
            "sparse" => {}
            "beyond" => fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 2 * SIZE as u64).unwrap(),
            _ => fallocate(&file, FallocateFlags::empty(), 0, SIZE as u64).unwrap(),
        }
        for (at, bytes) in &pieces {
            file.write_all_at(bytes, *at).unwrap();
        }
        file.set_len(SIZE as u64).unwrap();
        file.sync_all().unwrap();
        if kind == "reserved and cached" {
            assert_eq!(fs::read(&path).unwrap().len(), SIZE);
        }
        date(&[root.clone(), path]);
        digests.push(profiles().map(|options| digest(&root, &options)));
    }
    for (kind, found) in kinds.iter().zip(&digests) {
        assert_eq!(found, &digests[0], "{kind}");
    }
}

/// A file of 1 TiB that is nearly all hole is not read.
#[test]
fn holes_are_not_read() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let file = File::create(root.join("file")).unwrap();
    file.set_len(1 << 40).unwrap();
    for at in [0, 1 << 30, (1 << 39) + 5] {
        file.write_all_at(b"data", at).unwrap();
    }
    let layout = dir.path().join("layout");
    let start = std::time::Instant::now();
    build_into(&root, &layout, "tag", &options());
    // By reading zeros it would take some minutes.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert!(crate::common::faults(&layout, "tag").is_empty());
}

/// tmpfs calls the last page of the largest file a hole.
#[test]
fn the_end_of_the_largest_file_is_there() {
    in_namespace(
        "mount -t tmpfs none $D
        mkdir $D/root
        truncate -s 9223372036854775807 $D/root/file
        printf end | dd of=$D/root/file bs=1 seek=9223372036854775804 conv=notrunc status=none
        $P build $D/root $D/layout:tag
        $P extract $D/layout:tag $D/out
        test $(tail -c 3 $D/out/file) = end",
    );
}

/// Names, contents and what else a tree has, made in another order and under another umask.
#[test]
fn the_order_of_creation_does_not_show() {
    let dir = scratch();
    let mut digests = Vec::new();
    for turn in 0..4 {
        let root = dir.path().join(format!("root{turn}"));
        fs::create_dir(&root).unwrap();
        let mut names: Vec<u64> = (0..120).collect();
        if turn > 0 {
            names.sort_by_key(|i| (i * [0, 7919, 104_729, 1_299_709][turn]) % 1009);
        }
        let mut paths = vec![root.clone()];
        for name in ["a", "b", "c"] {
            let path = root.join(name);
            fs::create_dir(&path).unwrap();
            // A directory that was large stays so.
            if turn == 3 {
                for i in 0..500 {
                    File::create(path.join(format!("{i:0200}"))).unwrap();
                }
                for i in 0..500 {
                    fs::remove_file(path.join(format!("{i:0200}"))).unwrap();
                }
            }
            paths.push(path);
        }
        for i in names {
            let dir = root.join(["a", "b", "c"][i as usize % 3]);
            let path = dir.join(format!("{i}"));
            fs::write(&path, noise(i as usize * 300, i)).unwrap();
            let mode = fs::Permissions::from_mode(0o600 + (i as u32 % 8));
            fs::set_permissions(&path, mode).unwrap();
            paths.push(path);
        }
        // The first name of an inode is not always the one in front.
        let mut links = [("a/0", "z"), ("z", "b/0")];
        if turn % 2 == 1 {
            links = [("a/0", "b/0"), ("b/0", "z")];
        }
        for (from, to) in links {
            fs::hard_link(root.join(from), root.join(to)).unwrap();
        }
        symlink("a/0", root.join("link")).unwrap();
        paths.push(root.join("link"));
        date(&paths);
        digests.push(profiles().map(|options| digest(&root, &options)));
    }
    assert!(digests.iter().all(|found| found == &digests[0]));
}

/// Copies by several programs, on two filesystems, built by one processor and by all, with
/// several locales and umasks.
#[test]
fn copies_give_the_same_bytes() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    // tar does not copy a socket.
    fs::remove_file(root.join("sock")).unwrap();
    fs::hard_link(root.join("bin/text"), root.join("bin/a")).unwrap();
    date(&[root.clone(), root.join("bin")]);
    let script = "mount -t tmpfs none $D
        M='--xattrs --xattrs-include=*'
        cp -a $S $D/cp
        cp -a --sparse=always $S $D/always
        cp -a --sparse=never $S $D/never
        mkdir $D/tar $D/sorted
        tar -C $S $M -c . | tar -C $D/tar $M -xp
        (umask 077; tar -C $S $M --sort=name -S -c . | tar -C $D/sorted $M -xp)
        for d in $S $D/*; do
            rm -rf $D/l
            case $d in
            */tar) export LC_ALL=C CPU='taskset -c 0';;
            */never) export LC_ALL=tr_TR.UTF-8 LANG=de_DE;;
            */cp) umask 777;;
            *) unset LC_ALL CPU; umask 022;;
            esac
            $CPU $P build --format json $d $D/l:tag
            $CPU $P build --threads 3 --format json $d $D/l:tag
        done | grep -o '\"manifest\": .*'";
    let script = script.replace("$S", root.to_str().unwrap());
    let out = in_namespace(&script);
    let digests: Vec<&str> = out.lines().collect();
    assert_eq!(digests.len(), 12, "{out}");
    assert!(digests.iter().all(|found| *found == digests[0]), "{out}");
}
