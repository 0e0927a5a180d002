// SPDX-License-Identifier: GPL-2.0

//! Images made from any bytes: small ones, most of them sound but for some damage, with right
//! digests. The fuzz target `read_path` reads them, and so does a test.

use crate::chunk::{self, entries, hex, manifest, pack_with, sha256, Zstd};
use crate::message::{blob, extent, files, hole};
use format_tests::model::Chunk;
use puzzlefs_format::limits;
use vfs::lower::Layout;

/// Sizes of content: around a page, around what is small, around a block of metadata, and some
/// more than a window.
const SIZES: [usize; 12] = [
    1, 100, 4095, 4096, 4097, 9000, 16_383, 16_384, 20_000, 65_536, 70_000, 140_000,
];

/// Numbers in the place of others.
const NUMBERS: [u64; 11] = [
    0,
    1,
    4095,
    4096,
    65_536,
    limits::MAX_CHUNK_BYTES - 1,
    limits::MAX_CHUNK_BYTES,
    limits::MAX_CHUNK_BYTES + 1,
    1 << 31,
    u32::MAX as u64,
    u64::MAX,
];

/// Bytes that decide, one after another; zeroes when they are used up.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Those that `bytes` make.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next one.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        let number = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        number % n.max(1)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    fn number(&mut self) -> u64 {
        NUMBERS[self.below(NUMBERS.len())]
    }
}

/// A chunk, as it is stored.
struct Stored {
    /// What it is meant to have in it; none if it was damaged.
    content: Option<Vec<u8>>,
    bytes: Vec<u8>,
    digest: [u8; 32],
    compressed: bool,
}

impl Stored {
    fn new(choices: &mut Choices<'_>, version: u64) -> Self {
        let size = SIZES[choices.below(SIZES.len())];
        let content = chunk::content(size, choices.byte().into());
        let (bytes, compressed) = match choices.byte() % 8 {
            0 => (content.clone(), false),
            1 if version >= 5 => (chunk::lz4(&content), true),
            2..=4 => (Zstd::PLAIN.chunk(&content), true),
            _ => {
                let zstd = Zstd {
                    frame: [4096, 10_000, 65_536, usize::MAX][choices.below(4)],
                    has_size: choices.one_in(2),
                    has_checksum: choices.one_in(2),
                    window_log: 10 + u32::from(choices.byte() % 11),
                };
                (zstd.chunk(&content), true)
            }
        };
        let mut this = Self {
            content: Some(content),
            digest: sha256(&bytes),
            bytes,
            compressed,
        };
        if choices.one_in(4) {
            this.damage(choices);
        }
        this
    }

    /// Damages it, and mends the digest, mostly.
    fn damage(&mut self, choices: &mut Choices<'_>) {
        self.content = None;
        for _ in 0..=choices.byte() % 3 {
            let len = self.bytes.len();
            match choices.byte() % 4 {
                0 => self.bytes.truncate(choices.below(len)),
                1 => self.bytes.extend([choices.byte(), choices.byte()]),
                2 => {
                    // Where headers are, and the table.
                    let at = choices.below(40.min(len));
                    let at = if choices.one_in(2) { len - 1 - at } else { at };
                    self.bytes[at] = choices.byte();
                }
                _ => {
                    let at = choices.below(len);
                    self.bytes[at] ^= choices.byte();
                }
            }
            if self.bytes.is_empty() {
                self.bytes.push(0);
            }
        }
        if !choices.one_in(4) {
            self.digest = sha256(&self.bytes);
        }
    }
}

/// An image in a layout.
pub struct Recipe {
    /// Where it is.
    pub layout: Layout,
    /// Its manifest, or its Rootfs.
    pub digest: [u8; 32],
    /// What each of its files has in it, if that is known; the first is inode 2.
    pub files: Vec<Option<Vec<u8>>>,
    /// Whether nothing was damaged: then all can be read.
    pub is_sound: bool,
    /// How many packs it has.
    pub packs: usize,
}

impl Recipe {
    /// The image that `choices` make.
    pub fn new(choices: &mut Choices<'_>) -> Self {
        let layout = Layout::new();
        let version = 3 + u64::from(choices.byte() % 4);
        let chunks: Vec<Stored> = (0..=choices.byte() % 4)
            .map(|_| Stored::new(choices, version))
            .collect();
        let mut is_sound = chunks.iter().all(|chunk| chunk.content.is_some());
        let (extents, contents) = (0..=choices.byte() % 4)
            .map(|_| file(choices, version, &chunks, &mut is_sound))
            .unzip();
        let mut message = files(version, extents).write(1 << 12);
        if choices.one_in(6) {
            is_sound = false;
            damage_words(choices, &mut message);
        }
        let mut all: Vec<(Vec<u8>, [u8; 32])> = chunks
            .into_iter()
            .map(|chunk| (chunk.bytes, chunk.digest))
            .collect();
        let rootfs = match version == 6 && choices.one_in(2) {
            true => blocks(choices, &message, version, &mut all),
            false => message,
        };
        let packs: Vec<Vec<u8>> = (0..choices.byte() % 4)
            .map(|_| pack(choices, &all, &mut is_sound))
            .collect();
        let manifest = manifest(&rootfs, &packs);
        let digest = sha256(match packs.is_empty() {
            true => &rootfs,
            false => &manifest,
        });
        for blob in packs.iter().chain([&rootfs, &manifest]) {
            layout.insert(&chunk::name(blob), blob.clone());
        }
        for (bytes, digest) in &all {
            if choices.one_in(8) {
                // It may be in a pack, or not.
                is_sound = false;
                continue;
            }
            layout.insert(&hex(digest), bytes.clone());
        }
        Self {
            layout,
            digest,
            files: contents,
            is_sound,
            packs: packs.len(),
        }
    }
}

/// A file of parts of chunks, and what is in it.
fn file(
    choices: &mut Choices<'_>,
    version: u64,
    chunks: &[Stored],
    is_sound: &mut bool,
) -> (Vec<Chunk>, Option<Vec<u8>>) {
    let (mut extents, mut content) = (Vec::new(), Some(Vec::new()));
    for _ in 0..choices.byte() % 7 {
        if version >= 4 && choices.one_in(6) {
            let len = 1 + choices.below(70_000);
            extents.push(hole(len as u64));
            content = content.map(|content| [content, vec![0; len]].concat());
            continue;
        }
        let chunk = &chunks[choices.below(chunks.len())];
        let mut compressed = chunk.compressed;
        let mut known = chunk.content.as_deref();
        if choices.one_in(16) {
            compressed = !compressed;
            (known, *is_sound) = (None, false);
        }
        let size = known.map_or(50_000, <[u8]>::len);
        let (mut start, mut len) = (0, size);
        if choices.one_in(3) {
            start = choices.below(size);
            len = 1 + choices.below(size - start);
        }
        if choices.one_in(16) {
            // More than there is, perhaps.
            len += choices.below(10_000);
        }
        let end = start + len;
        *is_sound &= known.is_some_and(|content| end <= content.len());
        let known = known.and_then(|known| known.get(start..end));
        content = content
            .zip(known)
            .map(|(content, known)| [&content, known].concat());
        extents.push(Chunk {
            blob: Some((chunk.digest, start as u64, compressed)),
            len: len as u64,
        });
    }
    (extents, content)
}

/// Overwrites some words of a message.
fn damage_words(choices: &mut Choices<'_>, message: &mut [u8]) {
    for _ in 0..=choices.byte() % 3 {
        let at = 8 * choices.below(message.len() / 8);
        let word = match choices.one_in(2) {
            true => choices.number().to_le_bytes(),
            false => {
                let from = 8 * choices.below(message.len() / 8);
                message[from..from + 8].try_into().expect("8 bytes")
            }
        };
        let bytes = [8, 4, 2, 1][choices.below(4)];
        message[at..at + bytes].copy_from_slice(&word[..bytes]);
    }
}

/// Puts `message` into blocks, which are chunks. Returns the blob that lists them.
fn blocks(
    choices: &mut Choices<'_>,
    message: &[u8],
    version: u64,
    all: &mut Vec<(Vec<u8>, [u8; 32])>,
) -> Vec<u8> {
    let compressed = choices.one_in(2);
    let listed: Vec<Chunk> = message
        .chunks(limits::BLOCK_BYTES as usize)
        .map(|block| {
            let stored = match compressed {
                true => Zstd::PLAIN.chunk(block),
                false => block.to_vec(),
            };
            let listed = extent(&stored, compressed, 0, block.len() as u64);
            all.push((stored.clone(), sha256(&stored)));
            listed
        })
        .collect();
    blob(&listed, version)
}

/// A pack of some chunks, whose index may lie.
fn pack(choices: &mut Choices<'_>, all: &[(Vec<u8>, [u8; 32])], is_sound: &mut bool) -> Vec<u8> {
    let mask = choices.byte();
    let chosen = || {
        let bits = (0..).map(move |index| (mask >> (index % 8)) & 1 == 0);
        all.iter().zip(bits).filter(|(_, is_in)| *is_in)
    };
    let chunks: Vec<Vec<u8>> = chosen().map(|((bytes, _), _)| bytes.clone()).collect();
    let mut index = entries(&chunks);
    // Whose digest is not what it has.
    for entry in &mut index {
        let is = |chunk: &&(Vec<u8>, [u8; 32])| sha256(&chunk.0) == *entry.digest.as_bytes();
        if let Some((_, digest)) = all.iter().find(is) {
            entry.digest = puzzlefs_format::Digest::from_bytes(*digest);
        }
    }
    index.sort_by_key(|entry| entry.digest);
    if choices.one_in(6) && !index.is_empty() {
        *is_sound = false;
        let at = choices.below(index.len());
        let entry = &mut index[at];
        match choices.byte() % 3 {
            0 => entry.offset = choices.number() as u32,
            1 => entry.size = choices.number() as u32,
            _ => entry.size ^= u32::from(choices.byte()),
        }
    }
    let mut pack = pack_with(&chunks, &index);
    if choices.one_in(16) {
        *is_sound = false;
        let len = pack.len();
        match choices.one_in(2) {
            true => pack.truncate(choices.below(len)),
            false => pack[len - 1 - choices.below(16.min(len))] = choices.byte(),
        }
    }
    pack
}
