// SPDX-License-Identifier: Apache-2.0

//! The example in schema/FORMAT.md is what it says.

use capnp::message::Builder;
use format_tests::agree::{agree, Expect};
use format_tests::metadata_capnp as wire;
use puzzlefs_format::{Digest, FileType, Kind, Rootfs};

const FORMAT: &str = include_str!("../../../../schema/FORMAT.md");
const CHUNK: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";

/// The Rootfs of the example.
fn write() -> Vec<u8> {
    let mut message = Builder::new_default();
    let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
    rootfs.set_manifest_version(3);
    rootfs.set_inode_count(2);
    rootfs.set_data_size(3);
    let mut inodes = rootfs.init_metadatas(1).get(0).init_inodes(2);

    let mut root = inodes.reborrow().get(0);
    root.set_ino(1);
    root.set_permissions(0o755);
    root.set_mtime(1_000_000_000);
    root.set_nlink(2);
    root.set_size(1);
    let mut entry = root.init_mode().init_dir().init_entries(1).get(0);
    entry.set_ino(2);
    entry.set_name(b"hello");
    entry.set_type(FileType::File.number() as u8);

    let mut file = inodes.get(1);
    file.set_ino(2);
    file.set_permissions(0o644);
    file.set_mtime(1_000_000_000);
    file.set_nlink(1);
    file.set_size(3);
    let mut chunk = file.init_mode().init_file(1).get(0);
    chunk.set_len(3);
    let digest = Digest::parse(CHUNK.as_bytes()).unwrap();
    chunk.init_blob().set_digest(digest.as_bytes());
    capnp::serialize::write_message_to_words(&message)
}

/// As the document shows it: offset, and 16 bytes on a line.
fn dump(bytes: &[u8]) -> String {
    let line = |(i, line): (usize, &[u8])| {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("    {:04x}  {}\n", i * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[test]
fn stands_in_the_document() {
    let message = write();
    assert!(FORMAT.contains(CHUNK));
    assert!(
        FORMAT.contains(&dump(&message)),
        "it should be\n{}",
        dump(&message)
    );
}

#[test]
fn says_what_the_document_says() {
    let message = write();
    assert_eq!(agree(&message, Expect::Valid), 2);
    let rootfs = Rootfs::parse(&message).unwrap();
    let Ok(Kind::Dir(root)) = rootfs.root().unwrap().kind() else {
        panic!("a directory");
    };
    let file = rootfs.lookup(&root, b"hello", true).unwrap().unwrap();
    let Ok(Kind::File(extents)) = file.kind() else {
        panic!("a file");
    };
    assert_eq!(extents.total(), Ok(3));
    let chunk = extents.get(0).unwrap().chunk.unwrap();
    assert_eq!(chunk.digest.to_string(), CHUNK);
}

/// The numbers of limits.rs, as the document writes them.
#[test]
fn limits() {
    use puzzlefs_format::limits::*;
    let with_commas = |n: u64| {
        let digits = n.to_string();
        let groups: Vec<_> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(String::from_utf8_lossy)
            .collect();
        if n < 10_000 {
            digits
        } else {
            groups.join(",")
        }
    };
    let table = FORMAT
        .split("## 7. Limits")
        .nth(1)
        .unwrap()
        .split("## 8.")
        .next()
        .unwrap();
    for number in [
        MAX_MANIFEST_BYTES as u64,
        MAX_JSON_DEPTH.into(),
        MAX_ROOTFS_BYTES as u64,
        BLOCK_BYTES,
        MAX_SEGMENTS.into(),
        MAX_LAYERS.into(),
        MAX_DIR_ENTRIES.into(),
        MAX_NAME_BYTES as u64,
        MAX_SYMLINK_BYTES as u64,
        MAX_XATTRS.into(),
        MAX_XATTR_NAME_BYTES as u64,
        MAX_XATTR_VALUE_BYTES as u64,
        MAX_EXTENTS.into(),
        MAX_FILE_BYTES,
        MAX_CHUNK_BYTES,
        MAX_FRAMES.into(),
        MAX_MAJOR.into(),
        MAX_MINOR.into(),
    ] {
        let number = with_commas(number);
        let mut numbers = table.split(|c: char| !(c.is_ascii_digit() || c == ','));
        assert!(
            numbers.any(|other| other.trim_matches(',') == number),
            "{number}"
        );
    }
}
