// SPDX-License-Identifier: Apache-2.0
//! Chunks to stored bytes: raw, or zstd frames and a seek table.
//!
//! The zstd seekable format (facebook/zstd, contrib/seekable_format): independent
//! frames, then a skippable frame with their sizes. A reader finds the frames that
//! it needs from the end of the blob.

use std::io;

use anyhow::{ensure, Context, Result};
use zstd::bulk::Compressor;

/// Default zstd level; see [`Compression`].
pub const DEFAULT_LEVEL: i32 = 9;

/// Magic numbers of the seek table: its skippable frame and its footer.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As zstd frames.
    Zstd {
        /// Level, 1 to 22.
        level: i32,
        /// Uncompressed bytes in a frame; `None` makes each chunk one frame, so that a
        /// reader decompresses it by one call into one buffer.
        frame: Option<usize>,
    },
}

/// Compresses chunks, one after another, reusing its memory.
pub struct Encoder {
    zstd: Option<(Compressor<'static>, Option<usize>)>,
}

impl Encoder {
    /// An encoder for `compression`.
    pub fn new(compression: Compression) -> Result<Self> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd { level, frame } => {
                ensure!(
                    zstd::compression_level_range().contains(&level),
                    "zstd has no level {level}"
                );
                Some((Compressor::new(level)?, frame))
            }
        };
        Ok(Encoder { zstd })
    }

    /// The seekable form of `chunk`, or `None` if it should be stored raw: when it
    /// would save less than 1/32, decompression costs a reader more than the bytes.
    pub fn encode(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some((zstd, frame)) = &mut self.zstd else {
            return Ok(None);
        };
        let mut stored = Vec::with_capacity(zstd::zstd_safe::compress_bound(chunk.len()) + 64);
        let mut sizes = Vec::new();
        for part in chunk.chunks(frame.unwrap_or(chunk.len()).max(1)) {
            let packed = zstd.compress(part).context("zstd")?;
            sizes.push((size32(packed.len())?, size32(part.len())?));
            stored.extend_from_slice(&packed);
        }
        append_seek_table(&mut stored, &sizes)?;
        Ok((stored.len() <= chunk.len() - chunk.len() / 32).then_some(stored))
    }
}

/// Appends the seek table for frames of the given (compressed, uncompressed) sizes,
/// without checksums: the digest of the blob covers them.
fn append_seek_table(stored: &mut Vec<u8>, sizes: &[(u32, u32)]) -> Result<()> {
    let count = size32(sizes.len())?;
    let body = count
        .checked_mul(8)
        .and_then(|n| n.checked_add(9))
        .context("too many frames")?;
    stored.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    stored.extend_from_slice(&body.to_le_bytes());
    for (packed, plain) in sizes {
        stored.extend_from_slice(&packed.to_le_bytes());
        stored.extend_from_slice(&plain.to_le_bytes());
    }
    stored.extend_from_slice(&count.to_le_bytes());
    stored.push(0); // Descriptor: no checksums.
    stored.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    Ok(())
}

fn size32(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(|_| io::Error::other("a frame of more than 4 GiB"))
}
