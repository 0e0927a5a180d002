// SPDX-License-Identifier: Apache-2.0
//! A tree that is built again: nothing is done twice, and the image is what it would be without.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::common::namespace::in_namespace;
use crate::common::{build_into, everything, faults, loose, noise, options, scratch};
use puzzlefs::build::profile::Profile;
use puzzlefs::build::report::Report;
use puzzlefs::build::Options;
use puzzlefs::cache::{self, files::RECENT};
use puzzlefs::encode::compress::Compression;

/// A tree, a layout and a cache.
struct Place {
    dir: tempfile::TempDir,
    options: Options,
}

impl Place {
    /// A tree with all kinds of files, that are not recent.
    fn new(options: Options) -> Self {
        let dir = scratch();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        everything(&root);
        let place = Place { dir, options };
        for i in 0..20 {
            fs::write(place.path(&format!("large{i}")), noise(100_000, i)).unwrap();
        }
        fs::create_dir(place.path("small")).unwrap();
        for i in 0..1000 {
            let content = noise(1000 + i * 7919 % 2000, i as u64);
            fs::write(place.path(&format!("small/{i}")), content).unwrap();
        }
        wait();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Builds into a layout, with the cache or without.
    fn build(&self, layout: &str, cached: bool) -> Report {
        self.build_with(layout, cached.then_some(false))
    }

    /// The same; with the cache it may be forced.
    fn build_with(&self, layout: &str, cached: Option<bool>) -> Report {
        let options = Options {
            cache: cached.map(|force| cache::Options {
                dir: self.cache(),
                force,
            }),
            ..self.options.clone()
        };
        let root = self.dir.path().join("root");
        build_into(&root, &self.layout(layout), "tag", &options)
    }

    fn layout(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What was built is what would be without a cache.
    fn check(&self, report: &Report, layout: &str) {
        assert_eq!(report.manifest, self.build(layout, false).manifest);
        assert!(faults(&self.layout(layout), "tag").is_empty());
    }
}

fn wait() {
    std::thread::sleep(RECENT + Duration::from_millis(50));
}

/// All ways to store files, with little compression: they are built often.
fn profiles() -> [Options; 4] {
    let compression = Compression::zstd(1);
    let [packs, loose] = [options(), loose()].map(|options| Options {
        compression,
        ..options
    });
    let small = Options {
        policy: Profile::Small.policy(None).unwrap(),
        ..packs.clone()
    };
    let compat = Options {
        compat: true,
        ..loose.clone()
    };
    [packs, small, loose, compat]
}

/// The first of these.
fn fast() -> Options {
    let [fast, ..] = profiles();
    fast
}

#[test]
fn an_unchanged_tree_is_not_read_again() {
    for options in profiles() {
        let place = Place::new(options);
        let first = place.build("with", true);
        assert!(
            first.files_read > 300 && first.chunks_compressed > 10,
            "{first:?}"
        );
        place.build("without", false);
        for _ in 0..2 {
            let again = place.build("with", true);
            assert_eq!((again.files_read, again.chunks_compressed), (0, 0));
            assert_eq!(again.new_blobs, 0);
            place.check(&again, "without");
        }
        // What is read for certain is not compressed.
        let forced = place.build_with("with", Some(true));
        assert!(forced.files_read > 300);
        assert_eq!(forced.chunks_compressed, 0);
        place.check(&forced, "without");
    }
}

#[test]
fn of_a_changed_tree_what_changed_is_read() {
    for options in profiles() {
        let place = Place::new(options);
        let first = place.build("with", true);
        place.build("without", false);
        fs::write(place.path("large3"), noise(90_000, 100)).unwrap();
        let large = File::options()
            .write(true)
            .open(place.path("large4"))
            .unwrap();
        large.write_all_at(b"changed", 50_000).unwrap();
        fs::write(place.path("many/file100"), "changed").unwrap();
        fs::remove_file(place.path("many/file200")).unwrap();
        fs::rename(place.path("many/file201"), place.path("many/other")).unwrap();
        fs::write(place.path("many/new"), "new").unwrap();
        fs::rename(place.path("large5"), place.path("bin/large5")).unwrap();
        let again = place.build("with", true);
        assert!(again.files_read < first.files_read / 3, "{again:?}");
        assert!(
            again.chunks_compressed < first.chunks_compressed / 2,
            "{again:?}"
        );
        place.check(&again, "without");
        // And once more, from what was kept of the second.
        wait();
        fs::remove_file(place.path("many/file3")).unwrap();
        place.check(&place.build("with", true), "without");
    }
}

/// The last small files of the walk are a chunk that ends where it does since none follow. If some
/// do, it ends elsewhere.
#[test]
fn files_behind_the_last_change_the_last_chunk() {
    for options in profiles() {
        let place = Place::new(options);
        place.build("with", true);
        place.build("without", false);
        // Less than makes a chunk, and more.
        for (folder, count) in [("x", 3), ("y", 300)] {
            fs::create_dir(place.path(folder)).unwrap();
            for i in 0..count {
                let name = place.path(&format!("{folder}/{i}"));
                fs::write(name, noise(2000, 5000 + i)).unwrap();
            }
            wait();
            place.check(&place.build("with", true), "without");
        }
        // And if some do no longer.
        fs::remove_dir_all(place.path("y")).unwrap();
        wait();
        place.check(&place.build("with", true), "without");
    }
}

/// Not its time nor its size tells that a file was changed.
#[test]
fn a_change_that_hides_is_seen() {
    let place = Place::new(fast());
    place.build("with", true);
    place.build("without", false);
    for name in ["large1", "many/file50"] {
        let path = place.path(name);
        let before = path.metadata().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"CHANGED", 10).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        let after = path.metadata().unwrap();
        let facts = |m: &fs::Metadata| (m.ino(), m.len(), m.mtime(), m.mtime_nsec());
        assert_eq!(facts(&before), facts(&after));
    }
    place.check(&place.build("with", true), "without");
}

/// What was changed just before a build may be changed again without a later time.
#[test]
fn recent_files_are_read_again() {
    let place = Place::new(fast());
    let soon = SystemTime::now() + Duration::from_secs(5);
    fs::write(place.path("large1"), noise(100_000, 200)).unwrap();
    place.build("with", true);
    assert!(SystemTime::now() < soon || place.build("with", true).files_read == 0);
    let again = place.build("with", true);
    assert_eq!((again.files_read, again.chunks_compressed), (1, 0));
    wait();
    place.build("with", true);
    assert_eq!(place.build("with", true).files_read, 0);
}

/// ext4 with small inodes has whole seconds.
#[test]
fn whole_seconds_are_not_believed() {
    in_namespace(
        "truncate -s 16M $D/image
        mkfs.ext4 -q -I 128 $D/image
        mkdir $D/mnt
        mount -o loop $D/image $D/mnt
        mkdir $D/mnt/root
        head -c 100000 /dev/urandom >$D/mnt/root/file
        sleep 1.1
        $P build $D/mnt/root $D/layout:tag
        $P build $D/mnt/root $D/layout:tag | grep 'work *1 files read, 0 chunks compressed'",
    );
}

/// A cache that is damaged, that is somebody else's, or that others can write to is none.
#[test]
fn a_cache_that_is_not_sound_is_not_used() {
    let place = Place::new(fast());
    place.build("without", false);
    let files = || {
        fs::read_dir(place.cache())
            .unwrap()
            .map(|f| f.unwrap().path())
    };
    type Change = fn(&Path);
    let in_files: [Change; 4] = [
        |file| {
            let mut content = fs::read(file).unwrap();
            let at = content.len() / 2;
            content[at] ^= 1;
            fs::write(file, content).unwrap();
        },
        |file| fs::set_permissions(file, PermissionsExt::from_mode(0o620)).unwrap(),
        |file| {
            let elsewhere = file.with_extension("elsewhere");
            fs::rename(file, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, file).unwrap();
        },
        |file| {
            fs::remove_file(file).unwrap();
            let fifo = std::process::Command::new("mkfifo").arg(file).status();
            assert!(fifo.unwrap().success());
        },
    ];
    for change in in_files {
        place.build("with", true);
        assert_eq!(place.build("with", true).files_read, 0);
        files().for_each(|file| change(&file));
        let again = place.build("with", true);
        assert!(
            again.files_read > 0 && again.chunks_compressed > 0,
            "{again:?}"
        );
        place.check(&again, "without");
        fs::remove_dir_all(place.cache()).unwrap();
    }
    let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    let in_dir: [Change; 2] = [
        |dir| fs::set_permissions(dir, PermissionsExt::from_mode(0o770)).unwrap(),
        |dir| std::os::unix::fs::chown(dir, Some(1000), None).unwrap(),
    ];
    for change in in_dir {
        place.build("with", true);
        change(&place.cache());
        let again = place.build("with", true);
        assert!(
            again.files_read > 0 && again.chunks_compressed > 0,
            "{again:?}"
        );
        mode(&place.cache(), 0o700).unwrap();
        fs::remove_dir_all(place.cache()).unwrap();
    }
}

/// Another layout has none of it, and what a layout has lost or has damaged is stored again.
#[test]
fn the_layout_has_what_the_image_needs() {
    for options in profiles() {
        let place = Place::new(options);
        place.build("with", true);
        let other = place.build("other", true);
        assert!(faults(&place.layout("other"), "tag").is_empty());
        assert!(other.chunks_compressed > 10);
        let blobs = place.layout("with").join("blobs/sha256");
        let largest = || {
            let files = fs::read_dir(&blobs).unwrap().map(|f| f.unwrap().path());
            files
                .max_by_key(|file| file.metadata().unwrap().len())
                .unwrap()
        };
        let file = File::options().write(true).open(largest()).unwrap();
        file.write_all_at(b"damage", 1000).unwrap();
        place.build("with", true);
        assert!(faults(&place.layout("with"), "tag").is_empty());
        assert_eq!(place.build("with", true).files_read, 0);
        fs::remove_file(largest()).unwrap();
        place.build("with", true);
        assert!(faults(&place.layout("with"), "tag").is_empty());
    }
}

/// Whose home it is decides where the cache is.
#[test]
fn the_cache_is_in_the_home_of_who_builds() {
    let out = in_namespace(
        "mkdir -p $D/root $D/home $D/user $D/var
        echo text >$D/root/file
        mount --bind $D/var /var/cache
        unset XDG_CACHE_HOME
        HOME=$D/user; export HOME
        chown 1000 $D/user
        $P build $D/root $D/l:a
        ls $D/user/.cache 2>&1 || ls -d $D/var/puzzlefs/builds
        HOME=$D/home
        $P build --no-cache $D/root $D/l:a
        ls -A $D/home | wc -l
        $P build $D/root $D/l:a
        stat -c 'mode %a' $D/home/.cache/puzzlefs/builds
        XDG_CACHE_HOME=$D/xdg $P build $D/root $D/l:a
        ls -d $D/xdg/puzzlefs/builds
        chmod 777 $D/home/.cache/puzzlefs/builds
        $P build $D/root $D/l:a 2>&1
        chmod 700 $D/home/.cache/puzzlefs/builds
        mount --bind $D/home $D/home
        mount -o remount,bind,ro $D/home
        rm -rf $D/l
        mv $D/root $D/root2
        $P build $D/root2 $D/l:a 2>&1",
    );
    for text in [
        "/var/puzzlefs/builds\n",
        "\n0\n",
        "mode 700\n",
        "/xdg/puzzlefs/builds\n",
    ] {
        assert!(out.contains(text), "{text}: {out}");
    }
    assert_eq!(out.matches("no cache is used").count(), 1, "{out}");
    assert_eq!(out.matches("puzzlefs: ").count(), 1, "{out}");
}
