// SPDX-License-Identifier: Apache-2.0
//! Which bytes of which packs to ask for.

use std::collections::{HashMap, HashSet};

use puzzlefs_format::{Digest, PackEntry};

use super::blobs::Pack;
use crate::base::error::{Error, Result};
use crate::chunks::pack::end_of;

/// Bytes between two chunks that are fetched for nothing, as that takes no longer than a request. Real images,
/// the next of one base, lose 1 to 2% of bytes by it.
const SMALL_GAP: u64 = 32 << 10;
/// How many requests are not too many: where there are more, larger gaps are fetched for nothing as well, the
/// smallest first.
const FEW: usize = 40;
/// But no more than this part of what is wanted.
const MAX_LOSS: u64 = 8;
/// Bytes that are asked for at once, but for a chunk that is larger. As many are in memory for each request.
const LARGEST: u64 = 8 << 20;

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
}

/// What to ask for to get the chunks `missing`, each once.
///
/// # Errors
///
/// If a chunk is in no pack.
pub fn plan(packs: &[Pack], missing: &[Digest]) -> Result<Vec<Span>> {
    let mut left: HashSet<Digest> = missing.iter().copied().collect();
    // What is wanted of each pack, and how many bytes are in front of each.
    let mut lists = Vec::new();
    for (number, pack) in packs.iter().enumerate() {
        let (mut chunks, mut end) = (Vec::new(), None);
        for chunk in pack.end.iter().flat_map(|end| &end.entries) {
            if left.remove(&chunk.digest) {
                let gap = end.map(|end| u64::from(chunk.offset) - end);
                chunks.push((*chunk, gap));
                end = Some(end_of(chunk));
            }
        }
        lists.push((number, chunks));
    }
    let limit = largest_gap(lists.iter().flat_map(|(_, chunks)| chunks));
    let mut spans: Vec<Span> = Vec::new();
    for (pack, chunks) in lists {
        for (chunk, gap) in chunks {
            match spans.last_mut() {
                Some(span)
                    if gap.is_some_and(|gap| gap <= limit)
                        && end_of(&chunk) - span.start() <= LARGEST =>
                {
                    span.chunks.push(chunk);
                }
                _ => spans.push(Span {
                    pack,
                    chunks: vec![chunk],
                }),
            }
        }
    }
    match missing.iter().find(|chunk| left.contains(chunk)) {
        None => Ok(spans),
        Some(chunk) => {
            let text = format!("no blob that its manifest lists has the chunk sha256:{chunk}");
            Err(Error::damaged(text).of(chunk))
        }
    }
}

/// The largest gap that is fetched for nothing.
fn largest_gap<'a>(chunks: impl Iterator<Item = &'a (PackEntry, Option<u64>)>) -> u64 {
    let (mut gaps, mut wanted, mut count) = (Vec::new(), 0, 0);
    for (chunk, gap) in chunks {
        wanted += u64::from(chunk.size);
        count += 1;
        gaps.extend(gap);
    }
    gaps.sort_unstable();
    let (mut lost, mut limit) = (0, SMALL_GAP);
    // Gaps of one size, which are all fetched or none.
    for same in gaps.chunk_by(|a, b| a == b) {
        let (gap, is_many) = (same[0], count > FEW);
        lost += same.iter().sum::<u64>();
        count -= same.len();
        if gap > SMALL_GAP && !(is_many && lost <= wanted / MAX_LOSS) {
            break;
        }
        limit = limit.max(gap);
    }
    limit
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::pack::End;

    /// A pack of chunks at these places.
    fn pack(number: u8, places: &[(u32, u32)]) -> Pack {
        let entry = |(place, (offset, size)): (usize, &(u32, u32))| {
            let mut digest = [number; 32];
            digest[1..9].copy_from_slice(&place.to_le_bytes());
            PackEntry {
                digest: Digest::from_bytes(digest),
                offset: *offset,
                size: *size,
            }
        };
        Pack {
            digest: Digest::from_bytes([number; 32]),
            size: 0,
            said: None,
            end: Some(End {
                bytes: Vec::new(),
                size: 0,
                digest: Digest::from_bytes([0; 32]),
                entries: places.iter().enumerate().map(entry).collect(),
                start: 0,
            }),
            here: None,
        }
    }

    fn ranges(packs: &[Pack]) -> Vec<(usize, u64, u64)> {
        let entries = packs.iter().flat_map(|pack| &pack.end);
        let all: Vec<Digest> = entries
            .flat_map(|end| &end.entries)
            .map(|e| e.digest)
            .collect();
        let spans = plan(packs, &all).unwrap();
        assert_eq!(
            spans.iter().map(|span| span.chunks.len()).sum::<usize>(),
            all.len()
        );
        spans
            .iter()
            .map(|span| (span.pack, span.start(), span.end()))
            .collect()
    }

    #[test]
    fn near_chunks_are_asked_for_together() {
        let (small, large) = (32 << 10, (32 << 10) + 1);
        let one = pack(
            1,
            &[(0, 10), (10, 10), (20 + small, 5), (25 + small + large, 7)],
        );
        let at = u64::from(25 + small);
        let (first, second) = (
            (0, 0, at),
            (0, at + u64::from(large), at + u64::from(large) + 7),
        );
        assert_eq!(ranges(&[one]), [first, second]);
        // None goes from one pack into another, and none is too large.
        let parts = [
            pack(1, &[(0, 9)]),
            pack(2, &[(9, 5 << 20), (9 + (5 << 20), 5 << 20)]),
        ];
        let five = 5 << 20;
        let expected = [(0, 0, 9), (1, 9, 9 + five), (1, 9 + five, 9 + 2 * five)];
        assert_eq!(ranges(&parts), expected);
    }

    #[test]
    fn many_requests_are_made_fewer() {
        // A hundred chunks of 500,000 bytes, with gaps of 50,000 between most.
        let place = |i: u32| (i * 550_000 + (i / 10) * 1_000_000, 500_000);
        let all: Vec<(u32, u32)> = (0..100).map(place).collect();
        let many = ranges(&[pack(1, &all)]);
        assert!(many.len() <= FEW, "{}", many.len());
        // But not at any price.
        let place = |i: u32| (i * 60_000, 10_000);
        let all: Vec<(u32, u32)> = (0..100).map(place).collect();
        assert_eq!(ranges(&[pack(1, &all)]).len(), 100);
        let missing = [Digest::from_bytes([9; 32])];
        assert!(plan(&[], &missing).is_err());
    }
}
