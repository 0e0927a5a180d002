// SPDX-License-Identifier: Apache-2.0
//! The chunks of an image that are read first, in that order, as the image lists them in a layer of its own (FORMAT.md,
//! section 2.4). It is a hint: one that lies costs time.

use std::collections::HashSet;

use anyhow::{ensure, Context};
use puzzlefs_format::{limits, Digest, Manifest, MEDIA_TYPE_PROFILE};

use crate::base::error::{damage, Result, Where};
use crate::layout::Layout;

/// The last bytes of the blob.
const MAGIC: [u8; 4] = *b"PzPr";
const DIGEST: usize = 32;
/// The number of chunks, and the magic number.
const TAIL: usize = 8;
/// Chunks of a list, at most.
pub const MAX_CHUNKS: usize = limits::MAX_PROFILE_CHUNKS as usize;
/// Bytes of the blob, at most.
pub const MAX_BYTES: u64 = (MAX_CHUNKS * DIGEST + TAIL) as u64;

/// The blob that lists `chunks`, as many as it may.
pub fn to_bytes(chunks: &[Digest]) -> Vec<u8> {
    let chunks = &chunks[..chunks.len().min(MAX_CHUNKS)];
    let digests = chunks.iter().flat_map(|chunk| chunk.as_bytes());
    let mut bytes: Vec<u8> = digests.copied().collect();
    // Fewer than 2^32.
    bytes.extend((chunks.len() as u32).to_le_bytes());
    bytes.extend(MAGIC);
    bytes
}

/// The chunks that a blob lists, each once.
pub fn parse(bytes: &[u8]) -> Result<Vec<Digest>> {
    damage(parse_list(bytes))
}

fn parse_list(bytes: &[u8]) -> anyhow::Result<Vec<Digest>> {
    let rest = bytes.strip_suffix(&MAGIC);
    let rest = rest.context("it does not end as a list of chunks does")?;
    let (digests, count) = rest.split_last_chunk().context("it is cut")?;
    ensure!(
        digests.len() % DIGEST == 0
            && digests.len() / DIGEST == u32::from_le_bytes(*count) as usize,
        "it lists more or fewer chunks than it says"
    );
    let mut seen = HashSet::new();
    let chunks = digests.chunks_exact(DIGEST).filter_map(<[u8]>::first_chunk);
    let chunks = chunks.map(|bytes| Digest::from_bytes(*bytes));
    Ok(chunks.filter(|chunk| seen.insert(*chunk)).collect())
}

/// The blob that lists the first chunks of the image with the manifest `text`, if it has one.
pub fn blob_of(text: &[u8]) -> Result<Option<Digest>> {
    for layer in Manifest::parse(text)?.layers() {
        let layer = layer?;
        if layer.media_type == MEDIA_TYPE_PROFILE {
            return Ok(Some(layer.digest));
        }
    }
    Ok(None)
}

/// The first chunks of the image with the manifest `text`, if it lists them. They may be anything.
///
/// # Errors
///
/// If the list is not there, is too long, or is none.
pub fn of_manifest(layout: &Layout, text: &[u8]) -> Result<Option<Vec<Digest>>> {
    let Some(digest) = blob_of(text)? else {
        return Ok(None);
    };
    let bytes = layout.read_blob(&digest, MAX_BYTES)?;
    let context = || format!("the profile sha256:{digest}");
    Ok(Some(
        damage(parse_list(&bytes).with_context(context)).of(&digest)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::sha256;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let chunks = [b"a", b"b", b"c"].map(|text| sha256(&[text]));
        for list in [&chunks[..], &[]] {
            assert_eq!(parse(&to_bytes(list)).unwrap(), list);
        }
        let twice = [chunks[1], chunks[0], chunks[1]];
        assert_eq!(parse(&to_bytes(&twice)).unwrap(), twice[..2]);
        let many = vec![chunks[0]; MAX_CHUNKS + 1];
        assert_eq!(to_bytes(&many).len() as u64, MAX_BYTES);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let good = to_bytes(&[sha256(&[b"a"]), sha256(&[b"b"])]);
        for len in 0..good.len() {
            assert!(parse(&good[..len]).is_err(), "{len} bytes");
            assert!(parse(&good[len + 1..]).is_err(), "without {len} bytes");
        }
        let mut other = good.clone();
        other[64] = 3;
        assert!(parse(&other).is_err());
    }
}
