// SPDX-License-Identifier: Apache-2.0
//! An image as a filesystem that FUSE serves, without a mount: what it answers is what the tree has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::{build_into, everything, loose, noise, open, options, scratch};
use puzzlefs::fuse::faults::Log;
use puzzlefs::fuse::filesystem::{Attributes, Filesystem, SeekTo};
use puzzlefs::fuse::tree::ImageTree;
use puzzlefs::image::Image;
use puzzlefs::lazy::Patience;
use puzzlefs_format::FileType;
use rustix::io::Errno;

/// Lines of the log.
type Lines = Arc<Mutex<Vec<String>>>;

fn tree(image: &Image) -> (ImageTree<'_>, Lines) {
    let lines = Lines::default();
    let into = lines.clone();
    let log: Log = Box::new(move |line| into.lock().unwrap().push(line.to_owned()));
    (ImageTree::new(image, "/l:tag", log).unwrap(), lines)
}

/// The entries of a directory, read some at a time, as the kernel reads them.
fn entries(tree: &ImageTree<'_>, dir: u64, with: bool) -> Vec<(Vec<u8>, u64, FileType)> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let before = found.len();
        tree.list(dir, from, with, &mut |entry| {
            if found.len() == before + 7 {
                return false;
            }
            if with {
                let attributes = tree.attributes(entry.ino).unwrap();
                assert_eq!(entry.attributes, Some(attributes));
            }
            found.push((entry.name.to_vec(), entry.ino, entry.file_type));
            from = entry.next;
            true
        })
        .unwrap();
        if found.len() == before {
            return found;
        }
    }
}

/// All paths below the root, with what they are.
fn walk(tree: &ImageTree<'_>) -> BTreeMap<PathBuf, Attributes> {
    let mut all = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    all.insert(PathBuf::new(), tree.attributes(1).unwrap());
    while let Some(dir) = todo.pop() {
        let ino = all[&dir].ino;
        let listed = entries(tree, ino, false);
        assert_eq!(listed, entries(tree, ino, true));
        assert_eq!(all[&dir].size, listed.len() as u64);
        for (name, number, file_type) in listed {
            let found = tree.lookup(ino, &name).unwrap().unwrap();
            assert_eq!((found.ino, found.file_type), (number, file_type));
            let path = dir.join(std::ffi::OsString::from_vec(name));
            if file_type == FileType::Dir {
                assert_eq!(tree.parent(number).unwrap().ino, ino);
                todo.push(path.clone());
            }
            all.insert(path, found);
        }
        assert_eq!(tree.lookup(ino, b"no such name"), Ok(None));
    }
    all
}

fn read_all(tree: &ImageTree<'_>, of: &Attributes) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let part = tree
            .read(of.ino, content.len() as u64, 100_000, &Patience::None)
            .unwrap();
        if part.is_empty() {
            return content;
        }
        content.extend_from_slice(&part);
    }
}

fn xattrs(tree: &ImageTree<'_>, ino: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = tree.xattr_names(ino, true).unwrap();
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| (name.to_vec(), tree.xattr(ino, name).unwrap());
    names.map(value).collect()
}

fn xattrs_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..len].split(|&b| b == 0).filter(|n| !n.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(len);
        (name.to_vec(), value)
    };
    names.map(value).collect()
}

/// Everything is as in the tree that the image was built from, whatever form its chunks have.
#[test]
fn all_is_as_in_the_tree() {
    for (tag, options) in [("packs", options()), ("loose", loose())] {
        let dir = scratch();
        let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
        fs::create_dir(&root).unwrap();
        everything(&root);
        build_into(&root, &layout, tag, &options);
        let image = open(&layout, tag);
        let (tree, lines) = tree(&image);
        let all = walk(&tree);
        let mut numbers = BTreeMap::new();
        for (path, found) in &all {
            let at = root.join(path);
            let meta = fs::symlink_metadata(&at).unwrap();
            let shown = at.display();
            let mode = (u32::from(found.permissions), found.uid, found.gid);
            let wanted = (meta.mode() & 0o7777, meta.uid(), meta.gid());
            assert_eq!(mode, wanted, "{shown}");
            let time = (found.time.sec, i64::from(found.time.nsec));
            assert_eq!(time, (meta.mtime(), meta.mtime_nsec()), "{shown}");
            assert_eq!(u64::from(found.nlink), meta.nlink(), "{shown}");
            let kind = meta.file_type();
            let number = numbers.entry(meta.ino()).or_insert(found.ino);
            assert_eq!(*number, found.ino, "{shown}");
            assert_eq!(xattrs(&tree, found.ino), xattrs_of(&at), "{shown}");
            match found.file_type {
                FileType::File => {
                    assert_eq!(found.size, meta.len(), "{shown}");
                    assert!(read_all(&tree, found) == fs::read(&at).unwrap(), "{shown}");
                }
                FileType::Symlink => {
                    let target = fs::read_link(&at).unwrap();
                    assert_eq!(
                        target.as_os_str().as_bytes(),
                        tree.link_target(found.ino).unwrap()
                    );
                }
                FileType::Chr | FileType::Blk => {
                    let (major, minor) = found.device;
                    let device = rustix::fs::makedev(major, minor);
                    assert_eq!(device, meta.rdev(), "{shown}");
                }
                FileType::Dir => assert!(kind.is_dir()),
                FileType::Fifo | FileType::Sock => assert!(!kind.is_file() && !kind.is_dir()),
            }
        }
        let names: BTreeSet<_> = crate::common::snapshot(&root).into_keys().collect();
        assert_eq!(all.into_keys().collect::<BTreeSet<_>>(), names);
        assert_eq!(*lines.lock().unwrap(), [""; 0]);
        let total = tree.statistics().unwrap();
        assert!(total.bytes > 30 << 20 && total.inodes > 1000, "{total:?}");
    }
}

/// Short and long reads at any place, by several readers at once, with holes among them.
#[test]
fn reads_at_any_place_are_right() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    let mut big = noise(20 << 20, 9);
    big[5 << 20..7 << 20].fill(0);
    big[(9 << 20) + 100..(9 << 20) + 200_000].fill(0);
    fs::write(root.join("big"), &big).unwrap();
    build_into(&root, &layout, "tag", &options());
    let image = open(&layout, "tag");
    let (tree, _) = tree(&image);
    let names = [
        "big",
        "bin/tool",
        "bin/text",
        "many/file299",
        "sparse",
        "hole",
    ];
    let files: Vec<(u64, File, u64)> = names
        .iter()
        .map(|name| {
            let dirs: Vec<&str> = name.split('/').collect();
            let step = |ino, name: &&str| tree.lookup(ino, name.as_bytes()).unwrap().unwrap().ino;
            let ino = dirs.iter().fold(1, step);
            let file = File::open(root.join(name)).unwrap();
            let size = file.metadata().unwrap().len();
            (ino, file, size)
        })
        .collect();
    let reader = |seed: u64| {
        let numbers = noise(24 * 1500, seed);
        for numbers in numbers.chunks(24) {
            let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap());
            let (ino, file, size) = &files[number(0) as usize % files.len()];
            let offset = number(8) % (size + 5000);
            let len = 1 << (number(16) % 21);
            let mut wanted = vec![0; len];
            let mut count = 0;
            while let got @ 1.. = file
                .read_at(&mut wanted[count..], offset + count as u64)
                .unwrap()
            {
                count += got;
            }
            let found = tree.read(*ino, offset, len, &Patience::None).unwrap();
            assert!(*found == wanted[..count], "{ino} {offset}+{len}");
        }
    };
    thread::scope(|scope| {
        (0..4).for_each(|seed| drop(scope.spawn(move || reader(seed))));
    });
    // Every hole, and what is no hole.
    for (ino, file, size) in &files {
        let mut at = 0;
        while at < *size {
            let hole = tree.seek(*ino, at, SeekTo::Hole).unwrap();
            let data = tree.seek(*ino, at, SeekTo::Data);
            assert!(hole == at || data == Ok(at));
            let next = match hole == at {
                true => data.unwrap_or(*size),
                false => hole,
            };
            let mut bytes = vec![1; (next - at) as usize];
            file.read_exact_at(&mut bytes, at).unwrap();
            let is_zero = bytes.iter().all(|byte| *byte == 0);
            assert!(is_zero || hole > at, "{ino} {at}");
            at = next;
        }
        for to in [SeekTo::Data, SeekTo::Hole] {
            assert_eq!(tree.seek(*ino, *size, to), Err(Errno::NXIO));
        }
    }
    let hole = &files[5];
    assert_eq!(tree.seek(hole.0, 1, SeekTo::Data), Err(Errno::NXIO));
    let (big, sparse) = (&files[0], &files[4]);
    assert_eq!(tree.seek(big.0, 0, SeekTo::Hole), Ok(5 << 20));
    assert_eq!(tree.seek(sparse.0, 100_000, SeekTo::Data), Ok(1 << 20));
}

/// What has another byte is `EIO`, is logged once with its digest, and spoils nothing else.
#[test]
fn damage_is_an_error_and_a_line() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("bad"), noise(30_000, 1)).unwrap();
    let good = noise(3 << 20, 2);
    fs::write(root.join("good"), &good).unwrap();
    for form in [options(), loose()] {
        build_into(&root, &layout, "tag", &form);
        let image = open(&layout, "tag");
        let (tree, lines) = tree(&image);
        let ino = |name: &[u8]| tree.lookup(1, name).unwrap().unwrap().ino;
        let chunk = image.chunks().unwrap()[0].0;
        // Wherever its bytes are.
        let bytes = noise(30_000, 1);
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap().path();
            let mut stored = fs::read(&blob).unwrap();
            if let Some(at) = stored.windows(64).position(|part| part == &bytes[..64]) {
                stored[at + 10] ^= 1;
                fs::write(&blob, stored).unwrap();
            }
        }
        for _ in 0..3 {
            assert_eq!(
                tree.read(ino(b"bad"), 0, 100, &Patience::None).unwrap_err(),
                Errno::IO
            );
        }
        assert!(
            *tree
                .read(ino(b"good"), 100, 2 << 20, &Patience::None)
                .unwrap()
                == good[100..][..2 << 20]
        );
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let begin = format!("/l:tag: inode {}: chunk sha256:{chunk}: ", ino(b"bad"));
        assert!(lines[0].starts_with(&begin), "{lines:?}");
        fs::remove_dir_all(&layout).unwrap();
    }
}

/// Packs that are removed while the image is served are still read; one that is not there is heard of
/// before.
#[test]
fn packs_stay_open() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    let content = noise(40 << 20, 3);
    fs::write(root.join("file"), &content).unwrap();
    build_into(&root, &layout, "tag", &options());
    let image = open(&layout, "tag");
    let (tree, _) = tree(&image);
    for pack in crate::common::layout::packs(&layout, "tag") {
        fs::remove_file(layout.join("blobs/sha256").join(pack.to_string())).unwrap();
    }
    let found = tree.lookup(1, b"file").unwrap().unwrap();
    assert!(read_all(&tree, &found) == content);
    let error = ImageTree::new(&image, "", Box::new(|_| {})).err().unwrap();
    assert!(matches!(error, puzzlefs::Error::NotFound(_)), "{error:#}");
}

/// Questions about what is not there, or is something else.
#[test]
fn questions_that_make_no_sense_have_an_errno() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "tag", &options());
    let image = open(&layout, "tag");
    let (tree, lines) = tree(&image);
    let ino = |name: &[u8]| tree.lookup(1, name).unwrap().unwrap().ino;
    let file = ino(b"nothing");
    for none in [0, 1 << 40, u64::MAX] {
        assert_eq!(tree.attributes(none), Err(Errno::STALE));
        assert_eq!(tree.lookup(none, b"x"), Err(Errno::STALE));
        assert_eq!(
            tree.read(none, 0, 1, &Patience::None).unwrap_err(),
            Errno::STALE
        );
    }
    assert_eq!(tree.lookup(file, b"x"), Err(Errno::NOTDIR));
    assert_eq!(tree.list(file, 0, false, &mut |_| true), Err(Errno::NOTDIR));
    assert_eq!(tree.list(1, u64::MAX, false, &mut |_| panic!()), Ok(()));
    assert_eq!(
        tree.read(1, 0, 1, &Patience::None).unwrap_err(),
        Errno::INVAL
    );
    assert_eq!(tree.link_target(file), Err(Errno::INVAL));
    assert!(tree.read(file, 0, 1, &Patience::None).unwrap().is_empty());
    assert!(tree
        .read(ino(b"sparse"), u64::MAX, usize::MAX, &Patience::None)
        .unwrap()
        .is_empty());
    assert_eq!(tree.xattr(file, b"user.x"), Err(Errno::NODATA));
    assert_eq!(tree.xattr(file, b"btrfs.x"), Err(Errno::OPNOTSUPP));
    assert_eq!(*lines.lock().unwrap(), [""; 0]);
}
