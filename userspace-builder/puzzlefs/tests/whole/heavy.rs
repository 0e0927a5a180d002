// SPDX-License-Identifier: Apache-2.0
//! Well-formed images of less than 1 MB that ask for much: each command is done with each soon,
//! in little memory, or refuses it and says why.

#![allow(clippy::disallowed_macros, reason = "cargo shows it if a test fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::layout::store;
use crate::common::message::{tag_rootfs, tree, Message, DIR, FIFO, FILE};
use crate::common::scratch;
use puzzlefs::layout::manifest::Descriptor;
use puzzlefs::layout::Layout;
use puzzlefs_format::MEDIA_TYPE_CHUNK_ZSTD;

/// Seconds of processor time; without optimization all takes ten times as long.
const SECONDS: u32 = if cfg!(debug_assertions) { 60 } else { 5 };
/// KiB of private memory.
const MEMORY: u32 = 300 << 10;

/// Files that share one list of holes.
fn shared_extents() -> Vec<u8> {
    let shared = std::cell::Cell::new(0);
    let len = 60_000;
    tree(5, 1, 4_000, |message, at, index| {
        message.inode(at, index + 2, FILE, 0);
        if index == 0 {
            let list = message.list(at + 6, len, 1, 0);
            message.0[list..].fill(4096);
            shared.set(list - 1);
        } else {
            message.point(at + 6, shared.get(), len);
        }
    })
}

/// Inodes that share one list of extended attributes, whose values are one.
fn shared_xattrs() -> Vec<u8> {
    let shared = std::cell::Cell::new(0);
    tree(3, 1, 2_000, |message, at, index| {
        message.inode(at, index + 2, FILE, 0);
        if index > 0 {
            return message.structure(at + 7, shared.get(), 0, 2);
        }
        let additional = message.at();
        message.0.extend([0, 0]);
        message.structure(at + 7, additional, 0, 2);
        shared.set(additional);
        let len = 9_362;
        let list = message.list(additional, len, 0, 2);
        let value = message.at();
        message.0.resize(value + 8192, 0);
        for xattr in 0..len as usize {
            let name = message.text(format!("user.{xattr}").as_bytes());
            let at = list + 2 * xattr;
            message.bytes(at, name, format!("user.{xattr}").len() as u64);
            message.bytes(at + 1, value, 65_536);
        }
    })
}

/// As many layers as there may be, all the same, and none has what the names lead to.
fn many_layers() -> Vec<u8> {
    tree(5, 256, 6_000, |message, at, index| {
        // The numbers are beyond those that the names have.
        message.0[at] = index + 1_000_000;
    })
}

/// Directories in each other, all of one long name: paths of megabytes.
fn deep() -> Vec<u8> {
    let name = [b'n'; 255];
    let depth = 9_000;
    let mut message = Message(vec![0, 3, 0]);
    let vectors = message.list(2, 1, 0, 1);
    let inodes = message.list(vectors, depth + 1, 6, 2);
    let place = message.text(&name);
    for index in 0..=depth {
        let at = inodes + 8 * index as usize;
        message.inode(at, index + 1, DIR, 1);
        if index < depth {
            let dir = message.at();
            message.0.extend([0, 0]);
            message.structure(at + 6, dir, 1, 1);
            let entry = message.list(dir + 1, 1, 1, 1);
            message.0[entry] = index + 2;
            message.bytes(entry + 1, place, 255);
        }
    }
    message.finish()
}

/// The first blocks of a message of 2 GiB, and the one that all others are.
fn repeated(mode: u64) -> (Vec<u8>, Vec<u8>) {
    let (len, unit) = match mode {
        // An entry is its own name.
        DIR => (
            1 << 24,
            [2u64, (-2i32 << 2) as u32 as u64 | 1 | (2 << 32) | (1 << 35)],
        ),
        _ => (1 << 24, [4096, 4096]),
    };
    let mut message = Message(vec![0, 6, 0]);
    let vectors = message.list(2, 1, 0, 1);
    let count = 4_000;
    let inodes = message.list(vectors, count + 2, 6, 2);
    let files: Vec<String> = (0..count).map(|i| format!("{i:06}")).collect();
    message.inode(inodes, 1, DIR, count);
    let entries = (3..).zip(files.iter().map(|name| name.as_bytes()));
    message.dir(inodes, &entries.collect::<Vec<_>>());
    message.inode(inodes + 8, 2, FIFO, 0);
    let dir = message.at();
    message.0.extend([0, 0]);
    // Its tag is the last word of these blocks; the header of the message is one, too.
    let words = (message.at() + 2).next_multiple_of(8192) - 1;
    message.0.resize(words, 0);
    let tag = words - 1;
    let (data, pointers) = if mode == DIR { (1, 1) } else { (1, 0) };
    message.0[tag] = (len << 2) | (data << 32) | (pointers << 48);
    message.point(dir + 1, tag, len * (data + pointers));
    for index in 0..count {
        let at = inodes + 8 * (index as usize + 2);
        message.inode(at, index + 3, mode, 0);
        match mode {
            DIR => message.structure(at + 6, dir, 1, 1),
            _ => {
                message.0[at + 5] = 4096 * len;
                message.0[at + 1] |= 1 << 31;
                message.point(at + 6, tag, len);
            }
        }
    }
    message.structure(0, 1, 1, 1);
    let segment = (2u64 << 30) / 8 - 1;
    let mut head = (segment << 32).to_le_bytes().to_vec();
    head.extend(message.0.iter().flat_map(|word| word.to_le_bytes()));
    assert_eq!(head.len() % 65_536, 0);
    let block = unit.iter().flat_map(|word| word.to_le_bytes());
    (head, block.cycle().take(65_536).collect())
}

/// A Rootfs blob that says that its message is these blocks, of which the last is all others.
fn in_blocks(layout: &Path, chunks: &[Vec<u8>]) -> (Vec<u8>, Vec<Descriptor>) {
    let mut message = Message(vec![0, 6, 0, 0, 0]);
    let total = (2 << 30) / 65_536;
    let list = message.list(4, total, 1, 1);
    let mut layers = Vec::new();
    let mut refs = Vec::new();
    for chunk in chunks {
        let mut stored = zstd::bulk::compress(chunk, 19).unwrap();
        let size = stored.len() as u32;
        for number in [0x184d_2a5e, 17, size, chunk.len() as u32, 1] {
            stored.extend(u32::to_le_bytes(number));
        }
        stored.push(0);
        stored.extend(0x8f92_eab1u32.to_le_bytes());
        let (digest, size) = store(layout, &stored);
        layers.push(Descriptor::new(MEDIA_TYPE_CHUNK_ZSTD, digest, size));
        let at = message.at();
        message.0.extend([0, 1, 0]);
        let place = message.text(digest.as_bytes());
        message.bytes(at + 2, place, 32);
        refs.push(at);
    }
    for index in 0..total as usize {
        message.0[list + 2 * index] = 65_536;
        let at = refs[index.min(refs.len() - 1)];
        message.structure(list + 2 * index + 1, at, 2, 1);
    }
    message.structure(0, 1, 1, 3);
    let mut out = ((message.0.len() as u64) << 32).to_le_bytes().to_vec();
    out.extend(message.0.iter().flat_map(|word| word.to_le_bytes()));
    (out, layers)
}

/// Tags the image `heavy`.
fn tag(path: &Path, rootfs: &[u8], chunks: &[Descriptor]) {
    tag_rootfs(path, "heavy", rootfs, chunks);
    let bytes: u64 = crate::common::layout::blobs(path).values().sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
}

/// The command with limits on processor time and memory.
fn limited(args: &[&str]) -> Output {
    let script = format!("ulimit -t {SECONDS} -d {MEMORY} 2>&1 || exit 99; exec \"$@\" >/dev/null");
    let script = script.replace(" -d", " && ulimit -d");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_puzzlefs")]);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.args(args).output().unwrap()
}

/// Runs all commands on an image; all refuse it, or none does.
fn check(what: &str, fill: impl Fn(&Path)) {
    let dir = scratch();
    let layout = dir.path().join("layout");
    Layout::open_or_create(&layout).unwrap();
    fill(&layout);
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("000000"), "content").unwrap();
    let (at, root) = (layout.to_str().unwrap(), root.to_str().unwrap());
    let image = format!("{at}:heavy");
    let new = format!("{at}:new");
    let out = dir.path().join("out");
    for args in [
        &["verify", &image][..],
        &["ls", &image],
        &["ls", "-lR", &image],
        &["ls", "-R", "--format", "json", &image],
        &["ls", &image, "/000000"],
        &["inspect", &image],
        &["du", at],
        &["gc", at],
        &["repack", at],
        &["unpack", at],
        &["extract", &image, out.to_str().unwrap()],
        &["build", "--base", "heavy", root, &new],
    ] {
        let began = std::time::Instant::now();
        let output = limited(args);
        let text = String::from_utf8_lossy(&output.stderr);
        eprintln!(
            "{what}: {args:?}: {:?}, {:?} {text}",
            output.status,
            began.elapsed()
        );
        let refused = [
            "the limit is",
            "no image needs",
            "File name too long",
            "not in the image",
            "No space left",
        ];
        let refused = refused.iter().any(|reason| text.contains(reason));
        let damaged = args[0] == "verify" && output.status.code() == Some(3) && text.is_empty();
        assert!(
            output.status.success() || refused || damaged,
            "{what}: {args:?}: {:?} {text}",
            output.status
        );
    }
}

#[test]
fn files_that_share_extents() {
    check("extents", |layout| tag(layout, &shared_extents(), &[]));
}

#[test]
fn inodes_that_share_xattrs() {
    check("xattrs", |layout| tag(layout, &shared_xattrs(), &[]));
}

#[test]
fn many_equal_layers() {
    check("layers", |layout| tag(layout, &many_layers(), &[]));
}

#[test]
fn paths_of_megabytes() {
    check("deep", |layout| tag(layout, &deep(), &[]));
}

#[test]
fn blocks_that_are_one() {
    for mode in [DIR, FILE] {
        check("blocks", |layout| {
            let (head, block) = repeated(mode);
            let mut chunks: Vec<Vec<u8>> = head.chunks(65_536).map(<[u8]>::to_vec).collect();
            chunks.push(block);
            let (rootfs, layers) = in_blocks(layout, &chunks);
            tag(layout, &rootfs, &layers);
        });
    }
}
