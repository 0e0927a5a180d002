// SPDX-License-Identifier: Apache-2.0
//! Which bytes of which packs to ask for.

use std::collections::{HashMap, HashSet};

use puzzlefs_format::{Digest, PackEntry};

use super::blobs::Pack;
use crate::base::error::{Error, Result};
use crate::chunks::pack::end_of;

/// Bytes between two chunks that are fetched for nothing, if that saves a request.
pub const GAP: u64 = 64 << 10;
/// Bytes that are asked for at once, but for a chunk that is larger. As many are in memory for each request.
pub const LARGEST: u64 = 8 << 20;

/// Bytes of a pack that are asked for at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The pack, by its index.
    pub pack: usize,
    /// The chunks that are wanted, in order of their offsets. There is one at least.
    pub chunks: Vec<PackEntry>,
}

impl Span {
    /// Where it begins in the pack.
    pub fn start(&self) -> u64 {
        self.chunks.first().map_or(0, |chunk| chunk.offset.into())
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.chunks.last().map_or(0, end_of)
    }

    fn takes(&self, chunk: &PackEntry) -> bool {
        u64::from(chunk.offset) - self.end() <= GAP && end_of(chunk) - self.start() <= LARGEST
    }
}

/// What to ask for to get the chunks `missing`, each once.
///
/// # Errors
///
/// If a chunk is in no pack.
pub fn plan(packs: &[Pack], missing: &[Digest]) -> Result<Vec<Span>> {
    let mut left: HashSet<Digest> = missing.iter().copied().collect();
    let mut spans: Vec<Span> = Vec::new();
    for (number, pack) in packs.iter().enumerate() {
        let mut last: Option<Span> = None;
        for chunk in pack.end.iter().flat_map(|end| &end.entries) {
            if !left.remove(&chunk.digest) {
                continue;
            }
            match &mut last {
                Some(span) if span.takes(chunk) => span.chunks.push(*chunk),
                _ => spans.extend(last.replace(Span {
                    pack: number,
                    chunks: vec![*chunk],
                })),
            }
        }
        spans.extend(last);
    }
    match missing.iter().find(|chunk| left.contains(chunk)) {
        None => Ok(spans),
        Some(chunk) => {
            let text = format!("no blob that its manifest lists has the chunk sha256:{chunk}");
            Err(Error::damaged(text).of(chunk))
        }
    }
}

/// How many bytes of each pack are in `wanted`.
pub fn wanted_bytes(packs: &[Pack], wanted: &HashSet<Digest>) -> HashMap<usize, u64> {
    let bytes = |pack: &Pack| -> u64 {
        let entries = pack.end.iter().flat_map(|end| &end.entries);
        let wanted = entries.filter(|entry| wanted.contains(&entry.digest));
        wanted.map(|entry| u64::from(entry.size)).sum()
    };
    packs.iter().map(bytes).enumerate().collect()
}
