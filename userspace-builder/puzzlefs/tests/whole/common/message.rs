// SPDX-License-Identifier: Apache-2.0
//! Messages written word by word, for what no builder writes.

use std::path::Path;

use puzzlefs::layout::manifest::{render, Config, Descriptor, EMPTY_CONFIG};
use puzzlefs::layout::Layout;
use puzzlefs_format::MEDIA_TYPE_ROOTFS;

use super::layout::store;

pub const DIR: u64 = 3;
pub const FILE: u64 = 5;
pub const FIFO: u64 = 1;

/// A Cap'n Proto message of one segment that is written by hand, so that its pointers may lead
/// where they like.
pub struct Message(pub Vec<u64>);

impl Message {
    pub fn at(&self) -> usize {
        self.0.len()
    }

    pub fn offset(from: usize, to: usize) -> u64 {
        let offset = i32::try_from(to as i64 - from as i64 - 1).unwrap();
        u64::from((offset << 2) as u32)
    }

    /// Makes the word `from` a pointer to a struct at `to`.
    pub fn structure(&mut self, from: usize, to: usize, data: u64, pointers: u64) {
        self.0[from] = Self::offset(from, to) | (data << 32) | (pointers << 48);
    }

    /// Makes the word `from` a pointer to the composite list whose tag is at `to`.
    pub fn point(&mut self, from: usize, to: usize, words: u64) {
        self.0[from] = Self::offset(from, to) | 1 | (7 << 32) | (words << 35);
    }

    /// Appends a list of zeros, to which `from` points. Returns where its elements are.
    pub fn list(&mut self, from: usize, len: u64, data: u64, pointers: u64) -> usize {
        let at = self.at();
        let words = len * (data + pointers);
        self.0.push((len << 2) | (data << 32) | (pointers << 48));
        self.0.resize(at + 1 + words as usize, 0);
        self.point(from, at, words);
        at + 1
    }

    /// Makes the word `from` a pointer to `len` bytes at `to`.
    pub fn bytes(&mut self, from: usize, to: usize, len: u64) {
        self.0[from] = Self::offset(from, to) | 1 | (2 << 32) | (len << 35);
    }

    /// Fills in an inode, 8 words.
    pub fn inode(&mut self, at: usize, ino: u64, mode: u64, size: u64) {
        self.0[at] = ino;
        self.0[at + 1] = mode | (0o755 << 16);
        self.0[at + 5] = size;
    }

    /// Appends a directory's entries for the inode at `at`; each is (inode, name).
    pub fn dir(&mut self, at: usize, entries: &[(u64, &[u8])]) {
        let dir = self.at();
        self.0.extend([0, 0]);
        self.structure(at + 6, dir, 1, 1);
        let list = self.list(dir + 1, entries.len() as u64, 1, 1);
        let mut last: Option<(usize, &[u8])> = None;
        for (entry, (ino, name)) in (list..).step_by(2).zip(entries) {
            self.0[entry] = *ino;
            let place = match last {
                Some((place, known)) if known == *name => place,
                _ => self.text(name),
            };
            last = Some((place, name));
            self.bytes(entry + 1, place, name.len() as u64);
        }
    }

    pub fn text(&mut self, text: &[u8]) -> usize {
        let at = self.at();
        for word in text.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            self.0.push(u64::from_le_bytes(bytes));
        }
        at
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.structure(0, 1, 1, 1);
        let mut out = ((self.0.len() as u64) << 32).to_le_bytes().to_vec();
        out.extend(self.0.iter().flat_map(|word| word.to_le_bytes()));
        out
    }
}

/// A Rootfs: the root directory with `count` names, each of an inode of its own, that `fill` fills
/// in, given where it is and its index. `version` and `layers` equal layers.
pub fn tree(
    version: u64,
    layers: u64,
    count: u64,
    fill: impl Fn(&mut Message, usize, u64),
) -> Vec<u8> {
    // The root pointer, the Rootfs: a word and a pointer.
    let mut message = Message(vec![0, version, 0]);
    let vectors = message.list(2, layers, 0, 1);
    let inodes = message.list(vectors, count + 1, 6, 2);
    for layer in 1..layers as usize {
        message.point(vectors + layer, inodes - 1, (count + 1) * 8);
    }
    message.inode(inodes, 1, DIR, count);
    let names: Vec<String> = (0..count).map(|i| format!("{i:06}")).collect();
    let entries = (2..).zip(names.iter().map(|name| name.as_bytes()));
    message.dir(inodes, &entries.collect::<Vec<_>>());
    for index in 0..count {
        let at = inodes + 8 * (index as usize + 1);
        message.inode(at, index + 2, FIFO, 0);
        fill(&mut message, at, index);
    }
    message.finish()
}

/// Tags an image `name` that has this Rootfs and these chunks.
pub fn tag_rootfs(path: &Path, name: &str, rootfs: &[u8], chunks: &[Descriptor]) {
    let layout = Layout::open(path).unwrap();
    let (digest, size) = store(path, rootfs);
    store(path, EMPTY_CONFIG);
    let mut layers = vec![Descriptor::new(MEDIA_TYPE_ROOTFS, digest, size)];
    layers.extend_from_slice(chunks);
    let (manifest, size) = store(path, &render(&layers, &Config::default(), None).unwrap());
    layout.set_tag(name, &manifest, size).unwrap();
}
