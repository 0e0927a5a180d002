// SPDX-License-Identifier: Apache-2.0
//! The Rootfs message of an open image. One in blocks stays in them: a block that is there
//! often is in memory once, as a few bytes of an image may stand for 2 GiB of message.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{ensure, Context, Result};
use elsa::sync::FrozenMap;
use puzzlefs_format::{limits, Blocks, Error, Part, Rootfs, Source};

use crate::chunks::places::Places;
use crate::image::blocks;
use crate::image::chunk::{ChunkReader, Key};

/// Bytes of memory that any metadata may take: more than those of a small image ever need.
const MEMORY: u64 = 64 << 20;
/// How many more that may be for each byte that is stored. Real metadata become some 5 to 40
/// times smaller.
const RATIO: u64 = 64;

/// A Rootfs message.
pub(crate) enum Message {
    /// In memory as it was stored.
    Whole(Vec<u8>),
    /// In blocks.
    Blocks(InBlocks),
}

/// A message in blocks.
pub(crate) struct InBlocks {
    version: u64,
    size: usize,
    /// Bytes of it as stored, and of the blob that says where.
    stored: u64,
    /// Of each block its index among `contents`.
    order: Vec<usize>,
    /// The distinct blocks.
    contents: Vec<Vec<u8>>,
    /// What lies in several blocks, by its place and length.
    joined: FrozenMap<(usize, usize), Box<[u8]>>,
    /// Bytes that may still be joined.
    left: AtomicU64,
}

impl Message {
    /// Reads the `blocks` of a message, the distinct ones of which are `keys`, and checks each.
    /// `blob` bytes say where they are.
    pub(crate) fn read(
        blocks: &Blocks<'_>,
        keys: &[Key],
        places: &Places<'_>,
        blob: u64,
    ) -> Result<Self> {
        let mut reader = ChunkReader::new(places, blocks.version())?;
        let (mut stored, mut plain) = (blob, 0);
        let mut contents = vec![Vec::new(); keys.len()];
        let mut order = Vec::new();
        let numbers = blocks::numbers(keys);
        for (number, block) in (1..).zip(blocks.iter()) {
            let block = block?;
            let chunk = block.chunk;
            let index = numbers[&(chunk.digest, chunk.compressed)];
            order.push(index);
            let content: &mut Vec<u8> = &mut contents[index];
            if content.is_empty() {
                let bytes = reader.stored(&chunk.digest);
                let at = || format!("block {number} of {}", blocks.len());
                let bytes = bytes.with_context(at)?;
                stored += bytes.len() as u64;
                *content = reader
                    .decode(&chunk.digest, chunk.compressed, bytes)
                    .with_context(at)?;
                content.shrink_to_fit();
                plain += content.len() as u64;
                ensure!(
                    plain <= memory(stored),
                    "metadata that take more than {} bytes of memory and are stored in {stored}: \
                     no image needs that",
                    memory(stored)
                );
            }
            ensure!(
                content.len() as u64 == block.len,
                "block {number} of {}: the chunk sha256:{} has {} bytes in place of {}; build \
                 the image again",
                blocks.len(),
                chunk.digest,
                content.len(),
                block.len
            );
        }
        Ok(Self::Blocks(InBlocks {
            version: blocks.version(),
            size: usize::try_from(blocks.total())?,
            stored,
            order,
            contents,
            joined: FrozenMap::new(),
            left: AtomicU64::new(memory(stored) - plain),
        }))
    }

    /// Its bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Blocks(blocks) => blocks.size,
        }
    }

    /// Bytes that it is stored in.
    pub(crate) fn stored(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Blocks(blocks) => blocks.stored,
        }
    }

    /// The metadata.
    pub(crate) fn rootfs(&self) -> std::result::Result<Rootfs<'_>, Error> {
        match self {
            Self::Whole(bytes) => Rootfs::parse(bytes),
            Self::Blocks(blocks) => Rootfs::parse_source(blocks, blocks.version),
        }
    }

    /// How many segments it says to have: to find one takes a step for each.
    pub(crate) fn segments(&self) -> u64 {
        let head = match self {
            Self::Whole(bytes) => Some(&bytes[..]),
            Self::Blocks(blocks) => blocks.order.first().map(|i| &blocks.contents[*i][..]),
        };
        let word = head.and_then(|head| head.first_chunk());
        word.map_or(1, |word| u64::from(u32::from_le_bytes(*word)) + 1)
    }

    /// All of it in one piece.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Blocks(InBlocks {
                order, contents, ..
            }) => order.iter().flat_map(|i| &contents[*i]).copied().collect(),
        }
    }
}

/// Bytes of memory that metadata may take that are stored in so many.
fn memory(stored: u64) -> u64 {
    MEMORY.saturating_add(stored.saturating_mul(RATIO))
}

const BLOCK: usize = blocks::BYTES;

impl Source for InBlocks {
    fn size(&self) -> usize {
        self.size
    }

    fn part(&self, at: usize) -> std::result::Result<Part<'_>, Error> {
        let index = self.order.get(at / BLOCK).ok_or(Error::BadPointer)?;
        Ok(Part {
            start: at - at % BLOCK,
            bytes: &self.contents[*index],
        })
    }

    fn join(&self, at: usize, len: usize) -> std::result::Result<&[u8], Error> {
        if let Some(bytes) = self.joined.get(&(at, len)) {
            return Ok(bytes);
        }
        // What the map takes for each, and more.
        let cost = len as u64 + 128;
        let left = |left: u64| left.checked_sub(cost);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if taken.is_err() || len > limits::MAX_XATTR_VALUE_BYTES {
            return Err(Error::LimitExceeded);
        }
        let mut joined = Vec::with_capacity(len);
        while joined.len() < len {
            let at = at + joined.len();
            let part = self.part(at)?.bytes.get(at % BLOCK..);
            let part = part.filter(|p| !p.is_empty()).ok_or(Error::BadPointer)?;
            joined.extend_from_slice(&part[..part.len().min(len - joined.len())]);
        }
        Ok(self.joined.insert((at, len), joined.into()))
    }

    // What it lends is in memory anyway.
    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn Source) -> std::result::Result<(), Error>,
    ) -> std::result::Result<(), Error> {
        function(self)
    }
}
