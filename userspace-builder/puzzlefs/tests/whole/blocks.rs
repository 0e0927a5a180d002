// SPDX-License-Identifier: Apache-2.0
//! Images whose metadata are in blocks: what a build makes of them, and such that lie.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::layout::{packs, replace_rootfs, store};
use crate::common::{
    assert_same_tree, build_into, everything, faults, loose, open, options, scratch,
};
use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::build::Options;
use puzzlefs::image::Image;
use puzzlefs::layout::reference::Reference;
use puzzlefs::layout::Layout;
use puzzlefs::reports::inspect::inspect;
use puzzlefs::upkeep::convert::{repack, unpack};
use puzzlefs::upkeep::gc::gc;
use puzzlefs_format::{limits, Digest, Kind};

const BLOCK: usize = limits::BLOCK_BYTES as usize;

/// The chunks of the image's first pack, if it has one.
fn first_pack(layout: &Path, tag: &str) -> BTreeSet<Digest> {
    let first = packs(layout, tag)[0];
    let layout = Layout::open(layout).unwrap();
    let (_, entries) = puzzlefs::chunks::pack::open(&layout, &first).unwrap();
    entries.iter().map(|entry| entry.digest).collect()
}

fn blocks(layout: &Path, tag: &str) -> BTreeSet<Digest> {
    let image = open(layout, tag);
    image.blocks().iter().map(|(digest, _)| *digest).collect()
}

#[test]
fn both_forms_read_the_same() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    let whole = Options {
        compat: true,
        ..loose()
    };
    let verity = Options {
        fs_verity: true,
        ..loose()
    };
    for (tag, options, version) in [
        ("packs", options(), 6),
        ("loose", loose(), 6),
        ("whole", whole, 3),
        ("verity", verity, 5),
    ] {
        let report = build_into(&root, &layout, tag, &options);
        assert_eq!(faults(&layout, tag), [""; 0]);
        let image = open(&layout, tag);
        assert_eq!(image.rootfs().unwrap().version(), version, "{tag}");
        let root_inode = image.rootfs().unwrap().root().unwrap();
        let Ok(Kind::Dir(entries)) = root_inode.kind() else {
            panic!("the root is a directory");
        };
        assert!(entries.says_sorted(), "{tag}");
        let facts = inspect(&image).unwrap();
        let count = match version {
            6 => image.message().len().div_ceil(BLOCK),
            _ => 0,
        };
        assert_eq!(image.blocks().len(), count, "{tag}");
        assert_eq!(facts.metadata_blocks, count as u64, "{tag}");
        assert_eq!(facts.message_bytes, report.message_bytes);
        // Names of digits and zeros.
        let saved = report.metadata_bytes * 2 < report.message_bytes;
        assert_eq!(saved, version == 6, "{report:?}");
        if tag == "whole" {
            continue; // Its holes are zeros.
        }
        let out = dir.path().join(tag);
        puzzlefs::extract::extract(&image, &out, &Silent).unwrap();
        assert_same_tree(&root, &out);
    }
    assert_eq!(
        open(&layout, "packs").rootfs_digest(),
        open(&layout, "loose").rootfs_digest()
    );
}

/// Up to what one block holds.
#[test]
fn small_metadata_stay_whole() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    // A name takes some 290 bytes.
    let create = |i| drop(fs::File::create(root.join(format!("{i:0200}"))).unwrap());
    (0..220).for_each(create);
    let mut lens = Vec::new();
    for i in 220.. {
        create(i);
        build_into(&root, &layout, "tag", &options());
        assert_eq!(faults(&layout, "tag"), [""; 0]);
        let image = open(&layout, "tag");
        let (len, version) = (image.message().len(), image.rootfs().unwrap().version());
        lens.push(len);
        assert_eq!(version, if len <= BLOCK { 3 } else { 6 }, "{lens:?}");
        assert_eq!(image.blocks().is_empty(), len <= BLOCK, "{lens:?}");
        if len > BLOCK {
            break;
        }
    }
    assert!(lens.len() > 1);
}

/// Whatever becomes of the other chunks.
#[test]
fn blocks_have_a_pack_of_their_own() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "v1", &options());
    fs::write(root.join("bin/text"), "changed").unwrap();
    build_into(&root, &layout, "v2", &options());
    let opened = Layout::open(&layout).unwrap();
    let rootfs = |tag| *open(&layout, tag).rootfs_digest();
    let before = [rootfs("v1"), rootfs("v2")];
    let check = |what| {
        gc(&opened, false, &Silent).unwrap();
        for tag in ["v1", "v2"] {
            assert_eq!(faults(&layout, tag), [""; 0], "{what}");
            let (blocks, first) = (blocks(&layout, tag), first_pack(&layout, tag));
            assert!(first.is_subset(&blocks), "{tag} {what}");
        }
        assert_eq!([rootfs("v1"), rootfs("v2")], before);
    };
    check("as built");
    // They are small, and stay nevertheless.
    let old = [packs(&layout, "v1")[0], packs(&layout, "v2")[0]];
    repack(&opened, &[], 1 << 30, 0, &Silent).unwrap();
    check("repacked");
    assert_eq!([packs(&layout, "v1")[0], packs(&layout, "v2")[0]], old);
    unpack(&opened, &[], &Silent).unwrap();
    gc(&opened, false, &Silent).unwrap();
    assert!(packs(&layout, "v1").is_empty());
    repack(&opened, &[], 1 << 30, 0, &Silent).unwrap();
    check("unpacked and repacked");
    // The blocks of each, and one for the files of both.
    let all = packs(&layout, "v1").into_iter().chain(packs(&layout, "v2"));
    assert_eq!(all.collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn a_delta_on_a_base_in_blocks() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    build_into(&root, &layout, "base", &options());
    fs::write(root.join("bin/text"), "changed").unwrap();
    let delta = Options {
        base: Some("base".parse().unwrap()),
        ..options()
    };
    build_into(&root, &layout, "delta", &delta);
    assert_eq!(faults(&layout, "delta"), [""; 0]);
    let image = open(&layout, "delta");
    assert_eq!(image.rootfs().unwrap().layers(), 2);
    assert!(!image.blocks().is_empty());
    let compat = Options {
        base: Some("base".parse().unwrap()),
        compat: true,
        ..loose()
    };
    let opened = Layout::open(&layout).unwrap();
    let error = puzzlefs::build::build(&root, &opened, "compat", &compat, &Silent).unwrap_err();
    assert!(format!("{error:#}").contains("--compat"), "{error:#}");
}

/// The Rootfs blob of an image in blocks, to be changed word by word.
struct Head {
    _dir: tempfile::TempDir,
    layout: PathBuf,
    words: Vec<u64>,
    count: usize,
}

impl Head {
    /// Where the list of blocks begins, behind its tag. The framing is a word too.
    const LIST: usize = 8;
    /// Words of the copy of the root directory: six of data, two pointers, and no xattrs.
    const ROOT: usize = 6 + 2 + 2;

    fn new() -> Self {
        let dir = scratch();
        let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
        fs::create_dir(&root).unwrap();
        everything(&root);
        build_into(&root, &layout, "good", &options());
        let image = open(&layout, "good");
        let path = layout.join("blobs/sha256");
        let bytes = fs::read(path.join(image.rootfs_digest().to_string())).unwrap();
        let words = bytes.chunks_exact(8);
        let words = words.map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let words: Vec<u64> = words.collect();
        let count = image.blocks().len();
        assert!(count > 2);
        assert_eq!(words.len(), Self::LIST + count * (2 + 3 + 4) + Self::ROOT);
        let _dir = dir;
        Head {
            _dir,
            layout,
            words,
            count,
        }
    }

    fn version(&mut self) -> &mut u64 {
        &mut self.words[2]
    }

    fn len(&mut self, block: usize) -> &mut u64 {
        &mut self.words[Self::LIST + 2 * block]
    }

    fn pointer(&mut self, block: usize) -> &mut u64 {
        &mut self.words[Self::LIST + 2 * block + 1]
    }

    fn offset(&mut self, block: usize) -> &mut u64 {
        &mut self.words[Self::LIST + 2 * self.count + 3 * block]
    }

    fn compressed(&mut self, block: usize) -> &mut u64 {
        &mut self.words[Self::LIST + 2 * self.count + 3 * block + 1]
    }

    fn digest(&mut self, block: usize) -> &mut [u64] {
        &mut self.words[Self::LIST + 5 * self.count + 4 * block..][..4]
    }

    /// The data of the copy of the root directory.
    fn root(&mut self) -> &mut [u64] {
        &mut self.words[Self::LIST + 9 * self.count..][..6]
    }

    /// The pointer to that copy.
    fn root_pointer(&mut self) -> &mut u64 {
        &mut self.words[6]
    }

    /// Lets a block be the raw chunk `content`, of which it says that it has `len` bytes.
    fn set(&mut self, block: usize, content: &[u8], len: usize) {
        let (digest, _) = store(&self.layout, content);
        *self.len(block) = len as u64;
        *self.compressed(block) = 0;
        let bytes = digest.as_bytes().chunks_exact(8);
        for (word, bytes) in self.digest(block).iter_mut().zip(bytes) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
    }

    /// Keeps the first blocks only.
    fn truncate(&mut self, count: usize) {
        // The pointer to the list says how many words it has, the tag how many elements.
        let [pointer, _, tag] = &mut self.words[Self::LIST - 3..][..3] else {
            unreachable!()
        };
        *pointer = *pointer & 0x7_ffff_ffff | ((2 * count as u64) << 35);
        *tag = *tag & !0xffff_ffff | ((count as u64) << 2);
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// With `change` the image cannot be opened, says `message`; and nobody knows what it uses.
    fn refused(&mut self, message: &str, change: impl FnOnce(&mut Self)) {
        let good = self.words.clone();
        change(self);
        let bytes = self.bytes();
        self.words = good;
        replace_rootfs(&self.layout, &bytes);
        let reference = Reference::of_tag(&self.layout, "bad");
        let error = Image::open(&reference).err().expect(message);
        let text = format!("{error:#}");
        let rootfs = sha256(&[&bytes]).to_string();
        assert!(text.contains(message) && text.contains(&rootfs), "{text}");
        let report = gc(&Layout::open(&self.layout).unwrap(), true, &Silent).unwrap();
        assert!(report.broken[0].contains(&rootfs), "{report:?}");
    }
}

#[test]
fn lists_that_lie_are_refused() {
    let mut head = Head::new();
    let (last, block) = (head.count - 1, BLOCK as u64);
    let list = "bad list of blocks";
    head.refused(list, |h| *h.offset(1) = 1);
    head.refused(list, |h| *h.len(0) -= 1);
    head.refused(list, |h| *h.len(0) += 1);
    head.refused(list, |h| *h.len(last) = block + 1);
    // A hole, and nothing.
    head.refused("bad chunk reference", |h| *h.pointer(1) = 0);
    head.refused("bad chunk reference", |h| *h.len(last) = 0);
    head.refused("version 7", |h| *h.version() = 7);
    head.refused("block 2 of", |h| h.digest(1)[0] ^= 1);
    head.refused("block 2 of", |h| *h.compressed(1) = 0);
    head.refused("in place of", |h| *h.len(last) -= 8);
    head.refused("in place of", |h| *h.len(last) += 8);
    head.refused("5 bytes in place of 65536", |h| h.set(0, b"short", BLOCK));
    let longer = vec![0; BLOCK + 1];
    head.refused("65537 bytes in place of", |h| h.set(0, &longer, BLOCK));
    head.refused("malformed", |h| h.truncate(last));
}

/// The kernel takes the root directory's attributes from the copy.
#[test]
fn another_root_is_refused() {
    let mut head = Head::new();
    let other = "its blocks have another root directory";
    for field in [1, 2, 3, 4, 5] {
        head.refused(other, |h| h.root()[field] ^= 1 << 32);
    }
    let none = "no root directory";
    head.refused(none, |h| h.root()[0] = 2);
    head.refused(none, |h| h.root()[1] ^= 3 ^ 5); // A file.
    head.refused(none, |h| h.root()[1] ^= 3 ^ 8); // A whiteout.
    head.refused("malformed", |h| *h.root_pointer() ^= 1);
}

/// Blocks that are sound, of a message that is not.
#[test]
fn messages_that_lie_are_refused() {
    let mut head = Head::new();
    let mut older = open(&head.layout, "good").message()[..BLOCK].to_vec();
    assert_eq!(older[16], 6);
    older[16] = 5;
    head.refused("another version", |h| h.set(0, &older, BLOCK));
    // Blocks in blocks.
    let bytes = head.bytes();
    head.refused("bad list of blocks", |h| {
        h.set(0, &bytes, bytes.len());
        h.truncate(1);
    });
}
