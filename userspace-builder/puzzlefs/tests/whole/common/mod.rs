// SPDX-License-Identifier: Apache-2.0
//! Trees to build images from, and what a tree is for comparison.

pub mod command;
pub mod containerd;
pub mod layout;
pub mod message;
pub mod namespace;
pub mod ordinary;
pub mod pulls;
pub mod remote;
pub mod server;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use puzzlefs::base::progress::Silent;
use puzzlefs::build::profile::Profile;
use puzzlefs::build::report::Report;
use puzzlefs::build::{build, Options};
use puzzlefs::chunks::sink::Form;
use puzzlefs::image::Image;
use puzzlefs::layout::reference::Reference;
use puzzlefs::layout::Layout;
use puzzlefs::Error;
use rustix::fs::{mknodat, AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags, CWD};

/// A directory on a real filesystem, with holes and extended attributes.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What `open` gives once it is not refused, which it is within 10 s.
pub fn soon<T>(open: impl Fn() -> Result<T, Error>) -> T {
    let begin = Instant::now();
    loop {
        match open() {
            Err(Error::Refused(_)) if begin.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

/// The options that the command has by default.
pub fn options() -> Options {
    Options::of(Profile::Balanced).unwrap()
}

/// The same, but for chunks that are blobs of their own.
pub fn loose() -> Options {
    Options {
        form: Form::Loose,
        ..options()
    }
}

/// Builds `root` into the layout at `dir`, which is made.
pub fn build_into(root: &Path, dir: &Path, tag: &str, options: &Options) -> Report {
    let layout = Layout::open_or_create(dir).unwrap();
    build(root, &layout, tag, options, &Silent).unwrap()
}

/// Opens `dir:tag`.
pub fn open(dir: &Path, tag: &str) -> Image {
    Image::open(&Reference::of_tag(dir, tag)).unwrap()
}

/// Checks `dir:tag` and returns what is wrong or odd.
pub fn faults(dir: &Path, tag: &str) -> Vec<String> {
    let report = puzzlefs::verify::verify(&open(dir, tag), &Silent).unwrap();
    report.errors.into_iter().chain(report.warnings).collect()
}

/// Bytes that do not compress (xorshift).
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A tree with everything that an image can hold; what only root can make, if root. Its metadata
/// are more than a block.
pub fn everything(root: &Path) {
    let dirs = ["bin", "deep/er/still", "empty", "many", "names"];
    dirs.iter()
        .for_each(|d| fs::create_dir_all(root.join(d)).unwrap());
    for (name, content) in [
        ("bin/tool", noise(700_000, 1)),
        ("bin/same", noise(700_000, 1)),
        ("bin/text", b"all work and no play\n".repeat(100_000)),
        ("bin/edge", noise(32 << 10, 2)),
        ("bin/below", noise((32 << 10) - 1, 3)),
        ("deep/er/still/leaf", b"leaf".to_vec()),
        ("nothing", vec![]),
    ] {
        fs::write(root.join(name), content).unwrap();
    }
    for i in 0..300 {
        fs::write(
            root.join(format!("many/file{i}")),
            format!("number {i}\n").repeat(i),
        )
        .unwrap();
    }
    for i in 0..700 {
        File::create(root.join(format!("names/{i:0100}"))).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe not UTF-8 \n")), "x").unwrap();
    fs::write(root.join("many").join("n".repeat(255)), "the longest name").unwrap();
    fs::hard_link(root.join("bin/tool"), root.join("deep/er/tool-too")).unwrap();
    symlink("../bin/tool", root.join("deep/link")).unwrap();
    symlink("t".repeat(4095), root.join("deep/long-link")).unwrap();
    UnixListener::bind(root.join("sock")).unwrap();
    mknodat(
        CWD,
        root.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();

    // Data, a hole, data, a hole up to the end.
    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all(&noise(10_000, 4)).unwrap();
    sparse.seek(SeekFrom::Start(1 << 20)).unwrap();
    sparse.write_all(b"island").unwrap();
    sparse.set_len(3 << 20).unwrap();
    File::create(root.join("hole"))
        .unwrap()
        .set_len((32 << 20) + 5)
        .unwrap();

    let chmod = |name: &str, mode| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    chmod("bin/text", 0o400);
    chmod("empty", 0o1777);
    let flags = XattrFlags::empty();
    rustix::fs::setxattr(root.join("bin/text"), "user.a", b"value", flags).unwrap();
    rustix::fs::setxattr(root.join("bin/text"), "user.empty", b"", flags).unwrap();
    rustix::fs::setxattr(root.join("empty"), "user.big", &noise(1000, 5), flags).unwrap();
    if rustix::process::geteuid().is_root() {
        as_root(root);
    }
    chmod("bin/tool", 0o6755);
    for (name, sec, nsec) in [
        ("nothing", 1, 999_999_999),
        ("deep/link", -5, 7),
        ("many", 4_000_000_000, 0),
    ] {
        let time = Timespec {
            tv_sec: sec,
            tv_nsec: nsec,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn as_root(root: &Path) {
    for (name, kind, major, minor) in [
        ("null", FileType::CharacterDevice, 1, 3),
        ("disk", FileType::BlockDevice, 259, 1_048_575),
    ] {
        let device = rustix::fs::makedev(major, minor);
        mknodat(
            CWD,
            root.join(name),
            kind,
            Mode::from_raw_mode(0o600),
            device,
        )
        .unwrap();
    }
    for (name, uid, gid) in [
        ("bin/tool", 0, 5),
        ("deep/link", 1000, 1000),
        ("many", 4_000_000_000, 1),
    ] {
        std::os::unix::fs::lchown(root.join(name), Some(uid), Some(gid)).unwrap();
    }
    // struct vfs_cap_data, revision 2: cap_net_raw.
    let mut capability = [0; 20];
    capability[..8].copy_from_slice(&[0, 0, 0, 2, 0, 0x20, 0, 0]);
    let flags = XattrFlags::empty();
    rustix::fs::setxattr(
        root.join("bin/tool"),
        "security.capability",
        &capability,
        flags,
    )
    .unwrap();
    rustix::fs::lsetxattr(root.join("deep/link"), "trusted.t", b"on a link", flags).unwrap();
}

/// All that is to be the same of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    nlink: u64,
    device: u64,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// First of the names of this inode, in byte order.
    first_name: PathBuf,
    /// Where the holes are, of at least 64 KiB.
    holes: Vec<(u64, u64)>,
}

/// The facts of all files below `root` and of itself, by path.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut all = BTreeMap::new();
    let mut names = vec![PathBuf::new()];
    let mut inodes = BTreeMap::new();
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        let path = root.join(&name);
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            let mut below: Vec<PathBuf> =
                entries.map(|e| name.join(e.unwrap().file_name())).collect();
            below.sort();
            names.extend(below);
        }
        let content = match () {
            _ if kind.is_file() => digest(&path),
            _ if kind.is_symlink() => fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            _ => vec![],
        };
        let special = kind.is_char_device() || kind.is_block_device();
        let first = inodes
            .entry(meta.ino())
            .or_insert_with(|| name.clone())
            .clone();
        let facts = Facts {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            nlink: meta.nlink(),
            device: if special { meta.rdev() } else { 0 },
            content,
            xattrs: xattrs(&path),
            first_name: first,
            holes: if kind.is_file() { holes(&path) } else { vec![] },
        };
        all.insert(name, facts);
    }
    all
}

/// Size and a hash of a file's content (FNV-1a of its 8-byte words; for a test enough).
fn digest(path: &Path) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    let (mut hash, mut size) = (0xcbf2_9ce4_8422_2325u64, 0u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        size += len as u64;
        for word in buffer[..len].chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x100_0000_01b3);
        }
    }
    [hash.to_le_bytes(), size.to_le_bytes()].concat()
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..len].split(|&b| b == 0).filter(|n| !n.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}

fn holes(path: &Path) -> Vec<(u64, u64)> {
    use rustix::fs::SeekFrom::{Data, Hole};
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let (mut holes, mut at) = (vec![], 0);
    while at < size {
        let hole = rustix::fs::seek(&file, Hole(at)).unwrap();
        at = rustix::fs::seek(&file, Data(hole)).unwrap_or(size);
        if at - hole >= 64 << 10 {
            holes.push((hole, at));
        }
    }
    holes
}

/// Asserts that two trees are the same, naming what differs.
pub fn assert_same_tree(expected: &Path, found: &Path) {
    let (expected, found) = (snapshot(expected), snapshot(found));
    for (path, facts) in &expected {
        assert_eq!(found.get(path), Some(facts), "{}", path.display());
    }
    assert_eq!(expected.len(), found.len(), "a name too many");
}
