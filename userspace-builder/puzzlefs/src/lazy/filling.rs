// SPDX-License-Identifier: Apache-2.0
//! What is known of the chunks of a pack while it is filled.

use std::collections::BTreeMap;
use std::ops::Range;

use super::pack::Pack;

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Nobody fetches it.
    Missing,
    /// Somebody fetches it, or is about to.
    Asked,
    /// It was written, and may not be on the disk.
    Written,
    /// It is on the disk, and is being recorded or was.
    Kept,
}

/// A pack that is filled, as far as the queue has to know.
pub struct Filling {
    /// What is known of its chunks.
    pub chunks: Vec<Chunk>,
    /// Their bytes.
    pub sizes: Vec<u32>,
    /// Who waits for which chunk.
    pub waiting: BTreeMap<usize, Vec<u64>>,
    /// The chunk behind those that were asked for last, and how much is fetched behind them.
    pub next: usize,
    pub ahead: u64,
    /// Chunks that are not written yet, and those that are not recorded.
    pub missing: usize,
    pub unkept: usize,
    /// No chunk before this one is missing.
    pub fill_from: usize,
    /// Chunks that are [`Chunk::Written`], and their bytes.
    pub written: Vec<usize>,
    pub written_bytes: u64,
}

impl Filling {
    /// Bytes that are fetched behind what was asked for, at first; twice as many each time that a reader goes on there.
    pub const SMALLEST_AHEAD: u64 = 256 << 10;

    /// A pack as it was opened.
    pub fn new(pack: &Pack) -> Self {
        let count = pack.end.entries.len();
        let there = |chunk| match pack.present.has(chunk) {
            true => Chunk::Kept,
            false => Chunk::Missing,
        };
        let chunks: Vec<Chunk> = (0..count).map(there).collect();
        let missing = chunks.iter().filter(|chunk| **chunk == Chunk::Missing);
        let missing = missing.count();
        Filling {
            chunks,
            sizes: pack.end.entries.iter().map(|entry| entry.size).collect(),
            waiting: BTreeMap::new(),
            next: 0,
            ahead: Self::SMALLEST_AHEAD,
            missing,
            unkept: missing,
            fill_from: 0,
            written: Vec::new(),
            written_bytes: 0,
        }
    }

    /// Takes a chunk, if it is missing; gives its bytes.
    pub fn take_one(&mut self, chunk: usize) -> Option<u64> {
        let state = self.chunks.get_mut(chunk)?;
        if *state != Chunk::Missing {
            return None;
        }
        *state = Chunk::Asked;
        Some(self.sizes[chunk].into())
    }

    /// Whether a chunk is missing, and nobody fetches it.
    pub fn is_missing(&self, chunk: usize) -> bool {
        self.chunks.get(chunk) == Some(&Chunk::Missing)
    }

    /// Takes the missing chunks from `first` on: up to `end`, and `ahead` bytes more, but `most` in all. Empty if the
    /// first is not missing.
    pub fn take(&mut self, first: usize, end: usize, ahead: u64, most: u64) -> Range<usize> {
        let (mut last, mut bytes, mut beyond) = (first, 0, 0);
        while self.chunks.get(last) == Some(&Chunk::Missing) {
            let size = u64::from(self.sizes[last]);
            let is_first = last == first;
            if !is_first && (bytes + size > most || last >= end && beyond + size > ahead) {
                break;
            }
            beyond += if last >= end { size } else { 0 };
            bytes += size;
            self.chunks[last] = Chunk::Asked;
            last += 1;
        }
        first..last
    }
}
