// SPDX-License-Identifier: Apache-2.0
//! Which chunks of a pack are there, if not all are (FORMAT.md, section 2.3).
//!
//! Presence is recorded after a chunk was checked and is on disk, and never guessed from what a file looks
//! like. A record that says too little costs a request; one that says too much costs who reads an error, as every
//! chunk is checked against its digest whatever a record says.

use std::collections::HashSet;

use puzzlefs_format::{Digest, PackEntry};
use serde::{Deserialize, Serialize};

use crate::base::digest::{hex, sha256};
use crate::base::error::{Error, Result};
use crate::chunks::pack::End;
use crate::layout::Layout;

/// Sources of a pack, at most.
const MAX_SOURCES: usize = 16;

/// What of a pack is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The pack.
    pub pack: Digest,
    /// The bytes of it when it is whole.
    pub size: u64,
    /// Where it can be had: what `puzzlefs pull` was given, with the digest of a manifest.
    pub sources: Vec<String>,
    /// The digest of its end, whose chunks in order of their offsets are counted.
    end: Digest,
    chunks: usize,
    /// A bit for each of them, the lowest of a byte first.
    bits: Vec<u8>,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    pack: String,
    size: u64,
    end: String,
    chunks: usize,
    present: String,
    sources: Vec<String>,
}

impl Presence {
    /// Of a pack with this `end` nothing else is there.
    pub fn none(pack: &Digest, end: &End, sources: Vec<String>) -> Self {
        let chunks = end.entries.len();
        Presence {
            pack: *pack,
            size: end.start + end.bytes.len() as u64,
            sources,
            end: sha256(&[&end.bytes]),
            chunks,
            bits: vec![0; chunks.div_ceil(8)],
        }
    }

    /// The record of a pack, if it has one.
    ///
    /// # Errors
    ///
    /// If it is none, or of another pack.
    pub fn load(layout: &Layout, pack: &Digest) -> Result<Option<Self>> {
        let text = layout.lazy_record(pack)?;
        text.map(|text| Self::parse(pack, &text)).transpose()
    }

    fn parse(pack: &Digest, text: &[u8]) -> Result<Self> {
        let parsed = || -> Option<Self> {
            let written: Written = serde_json::from_slice(text).ok()?;
            let digest = |text: &str| Digest::parse(text.strip_prefix("sha256:")?.as_bytes()).ok();
            let bits = unhex(&written.present)?;
            let is_whole = bits.len() == written.chunks.div_ceil(8);
            let is_it =
                digest(&written.pack)? == *pack && is_whole && written.sources.len() <= MAX_SOURCES;
            is_it.then_some(Presence {
                pack: *pack,
                size: written.size,
                end: digest(&written.end)?,
                sources: written.sources,
                chunks: written.chunks,
                bits,
            })
        };
        let damaged = || {
            let text = format!("the record of the lazy pack sha256:{pack} is damaged: `puzzlefs pull --lazy` it again");
            Error::damaged(text).of(pack)
        };
        parsed().ok_or_else(damaged)
    }

    fn text(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&Written {
            pack: format!("sha256:{}", self.pack),
            size: self.size,
            end: format!("sha256:{}", self.end),
            chunks: self.chunks,
            present: hex(&self.bits),
            sources: self.sources.clone(),
        })?)
    }

    /// Whether it is of a pack with this end.
    pub fn is_of(&self, end: &End) -> bool {
        self.end == sha256(&[&end.bytes]) && self.chunks == end.entries.len()
    }

    /// Whether a chunk is there, by its number in order of the offsets.
    pub fn has(&self, chunk: usize) -> bool {
        let byte = self.bits.get(chunk / 8);
        byte.is_some_and(|byte| (byte >> (chunk % 8)) & 1 == 1)
    }

    /// Notes that a chunk is there.
    pub fn add(&mut self, chunk: usize) {
        if let Some(byte) = self.bits.get_mut(chunk / 8) {
            *byte |= 1 << (chunk % 8);
        }
    }

    /// Records that of a pack with this `end` nothing is there yet but that. Of one that has such a record already the
    /// sources are added, before those that it has: the newest are the likeliest to answer.
    pub fn begin(layout: &Layout, pack: &Digest, end: &End, sources: &[String]) -> Result<()> {
        layout.change_lazy(pack, |old| {
            let old = old.and_then(|text| Self::parse(pack, &text).ok());
            let known = old.filter(|old| old.is_of(end));
            let mut record = known.unwrap_or_else(|| Self::none(pack, end, sources.to_vec()));
            record.sources.retain(|known| !sources.contains(known));
            record.sources.splice(0..0, sources.iter().cloned());
            record.sources.truncate(MAX_SOURCES);
            record.text().map(Some)
        })
    }

    /// Records that `chunks` are on disk too. Of a pack that has no record any more there is nothing to say.
    pub fn record(layout: &Layout, pack: &Digest, end: &End, chunks: &[usize]) -> Result<()> {
        layout.change_lazy(pack, |old| {
            let Some(old) = old else {
                return Ok(None);
            };
            let mut record = match Self::parse(pack, &old) {
                Ok(record) if record.is_of(end) => record,
                _ => return Ok(Some(old)),
            };
            chunks.iter().for_each(|chunk| record.add(*chunk));
            record.text().map(Some)
        })
    }
}

/// The offsets of those chunks of a pack that are not there, as far as it is lazy. `entries` in any order.
pub(crate) fn lacking(
    layout: &Layout,
    pack: &Digest,
    entries: &[PackEntry],
) -> Result<Option<HashSet<u32>>> {
    if !layout.is_lazy(pack)? {
        return Ok(None);
    }
    let mut offsets: Vec<u32> = entries.iter().map(|entry| entry.offset).collect();
    offsets.sort_unstable();
    // Of a damaged record nothing is believed.
    let record = Presence::load(layout, pack).unwrap_or(None);
    let record = record.filter(|record| record.chunks == offsets.len());
    let is_there = |chunk| record.as_ref().is_some_and(|record| record.has(chunk));
    let missing = offsets.into_iter().enumerate();
    let missing = missing.filter(|(chunk, _)| !is_there(*chunk));
    Ok(Some(missing.map(|(_, offset)| offset).collect()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| (byte as char).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let byte = |pair: &[u8]| u8::try_from((nibble(pair[0])? << 4) | nibble(pair[1])?).ok();
    pairs.map(byte).collect()
}

/// What is read in vain of a chunk that is not there.
pub(crate) fn not_here(chunk: &Digest, pack: &Digest) -> Error {
    let text = format!(
        "the chunk sha256:{chunk} of the pack sha256:{pack} is not here yet: {}",
        crate::layout::lazy::COMPLETE
    );
    Error::not_found(text).of(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_say_what_was_written() {
        let pack = Digest::from_bytes([7; 32]);
        let entry = |number: u32| PackEntry {
            digest: Digest::from_bytes([number as u8; 32]),
            offset: number * 10,
            size: 10,
        };
        let end = End {
            bytes: b"an end".to_vec(),
            entries: (0..11).map(entry).collect(),
            start: 110,
        };
        let mut record = Presence::none(&pack, &end, vec!["oci:somewhere".into()]);
        assert!((0..20).all(|chunk| !record.has(chunk)));
        [0, 7, 8, 10, 50]
            .into_iter()
            .for_each(|chunk| record.add(chunk));
        let text = record.text().unwrap();
        let read = Presence::parse(&pack, &text).unwrap();
        assert_eq!(read, record);
        assert!(read.is_of(&end));
        let there: Vec<usize> = (0..64).filter(|chunk| read.has(*chunk)).collect();
        assert_eq!(there, [0, 7, 8, 10]);
        // Of another pack, another end, or cut.
        assert!(Presence::parse(&Digest::from_bytes([8; 32]), &text).is_err());
        let mut other = end.clone();
        other.bytes.push(0);
        assert!(!read.is_of(&other));
        assert!(Presence::parse(&pack, &text[..text.len() - 1]).is_err());
        let text = String::from_utf8(text).unwrap();
        for (old, new) in [("8105", "81"), ("8105", "810g"), ("8105", "81050")] {
            assert!(text.contains(old), "{text}");
            assert!(
                Presence::parse(&pack, text.replace(old, new).as_bytes()).is_err(),
                "{new}"
            );
        }
    }
}
