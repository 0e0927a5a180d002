// SPDX-License-Identifier: Apache-2.0
//! Chunks to stored bytes: raw, zstd frames and a seek table, or an LZ4 frame.
//!
//! zstd's seekable format (facebook/zstd, contrib/seekable_format) has independent
//! frames, then a skippable frame with their sizes, by which a reader finds those that
//! it needs from the end of the blob.

use std::io::{self, Write};

use anyhow::{ensure, Context, Result};
use lz4::liblz4::BlockChecksum;
use lz4::{BlockMode, BlockSize, ContentChecksum};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{compress_bound, CParameter};

use crate::chunks::codec::Codec;

/// Level of LZ4 if none is asked for: the highest. It costs the builder a third of what
/// zstd's default does, and the reader less than lower ones.
pub const LZ4_LEVEL: u32 = 12;

/// Magic numbers of the seek table: its skippable frame and its footer.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// How chunks are compressed: by neither method, by one of them where it makes them
/// smaller, or each by the better one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// zstd.
    pub zstd: Option<Zstd>,
    /// LZ4.
    pub lz4: Option<Lz4>,
}

/// Settings of zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zstd {
    /// Level, 1 to 22.
    pub level: i32,
    /// Length of the shortest matches; `None`: the level's own. Levels from 13 on take 3,
    /// and get frames of many sequences that cost readers more: see [`crate::build::profile`].
    pub min_match: Option<u32>,
    /// Uncompressed bytes in a frame; `None` makes each chunk one frame, so that a
    /// reader decompresses it by one call into one buffer.
    pub frame: Option<usize>,
    /// Compressed bytes in a block, roughly; `None`: as many as zstd likes, up to all of a
    /// chunk. A reader who wants one page decompresses no more blocks than it needs.
    pub block: Option<u32>,
}

/// Settings of LZ4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lz4 {
    /// Level, 1 to 12.
    pub level: u32,
    /// Beside zstd: LZ4 is taken unless zstd saves this part of the chunk more, in thousandths.
    pub unless: usize,
}

impl Compression {
    /// By zstd, of this level.
    pub fn zstd(level: i32) -> Self {
        let (min_match, frame, block) = (None, None, None);
        Compression {
            zstd: Some(Zstd {
                level,
                min_match,
                frame,
                block,
            }),
            lz4: None,
        }
    }

    /// By LZ4, of this level.
    pub fn lz4(level: u32) -> Self {
        let unless = 1000;
        Compression {
            zstd: None,
            lz4: Some(Lz4 { level, unless }),
        }
    }

    /// The same by zstd alone, as upstream knows no LZ4.
    pub fn without_lz4(self) -> crate::Result<Self> {
        match self.lz4.is_none() || self.zstd.is_some() {
            true => Ok(Compression { lz4: None, ..self }),
            false => Err(crate::Error::refused(
                "--compat rules out --compression lz4, which upstream does not know",
            )),
        }
    }
}

/// Compresses chunks, one after another, reusing its memory.
pub(crate) struct Encoder {
    zstd: Option<(Compressor<'static>, Option<usize>)>,
    lz4: Option<Lz4>,
}

impl Encoder {
    /// An encoder for `compression`.
    pub fn new(compression: Compression) -> Result<Self> {
        let zstd = |settings: Zstd| -> Result<_> {
            let level = settings.level;
            ensure!(
                zstd::compression_level_range().contains(&level),
                "zstd has no level {level}"
            );
            let mut zstd = Compressor::new(level)?;
            if let Some(len) = settings.min_match {
                zstd.set_parameter(CParameter::MinMatch(len))?;
            }
            if let Some(len) = settings.block {
                zstd.set_parameter(CParameter::TargetCBlockSize(len))?;
            }
            Ok((zstd, settings.frame))
        };
        Ok(Encoder {
            zstd: compression.zstd.map(zstd).transpose()?,
            lz4: compression.lz4,
        })
    }

    /// The compressed form of `chunk`, or `None` if it should be stored raw: when it would
    /// save less than 1/32, decompression costs a reader more than the bytes.
    pub fn encode(&mut self, chunk: &[u8]) -> Result<Option<(Codec, Vec<u8>)>> {
        let saves = |packed: &Vec<u8>| packed.len() <= chunk.len() - chunk.len() / 32;
        let zstd = match &mut self.zstd {
            Some((zstd, frame)) => Some(zstd_frames(chunk, zstd, *frame)?),
            None => None,
        };
        let zstd = zstd.filter(saves);
        if let Some(lz4) = self.lz4 {
            // What LZ4 may take: beside zstd, what that leaves and a part of the chunk more.
            let most = zstd
                .as_ref()
                .map(|packed| packed.len() + chunk.len() * lz4.unless / 1000);
            if most.is_none_or(|most| may_take(chunk, most)) {
                let packed = lz4_frame(chunk, lz4.level).context("LZ4")?;
                if saves(&packed) && most.is_none_or(|most| packed.len() < most) {
                    return Ok(Some((Codec::Lz4, packed)));
                }
            }
        }
        Ok(zstd.map(|packed| (Codec::Zstd, packed)))
    }
}

/// Whether LZ4 may store `chunk` in at most `most` bytes at a high level, as far as the lowest one
/// tells, in a tenth of the time. A high level saves some 14% of what that makes; of chunks of which
/// it saves more, some are missed.
fn may_take(chunk: &[u8], most: usize) -> bool {
    let estimate = lz4::block::compress_bound(chunk.len())
        .ok()
        .and_then(|bound| {
            let mut packed = vec![0; bound];
            lz4::block::compress_to_buffer(chunk, None, false, &mut packed).ok()
        });
    estimate.is_some_and(|len| len - len / 7 <= most)
}

/// Says whether files are worth compressing.
pub(crate) struct Probe(Compressor<'static>);

impl Probe {
    /// Bytes of a file of which that cannot be said: headers take too much of so few.
    const FEW: usize = 256;

    /// A probe.
    pub fn new() -> Result<Self> {
        Ok(Probe(Compressor::new(1)?))
    }

    /// Whether zstd saves an eighth of `content`, or may in a chunk with others. Of man pages that
    /// gzip has compressed it saves up to a sixteenth: they begin with their names.
    pub fn saves(&mut self, content: &[u8]) -> Result<bool> {
        let most = content.len() - content.len() / 8;
        Ok(content.len() < Self::FEW || self.0.compress(content)?.len() <= most)
    }
}

/// The seekable form of `chunk`.
fn zstd_frames(chunk: &[u8], zstd: &mut Compressor<'_>, frame: Option<usize>) -> Result<Vec<u8>> {
    let mut stored = Vec::with_capacity(compress_bound(chunk.len()) + 64);
    let mut sizes = Vec::new();
    for part in chunk.chunks(frame.unwrap_or(chunk.len()).max(1)) {
        let packed = zstd.compress(part).context("zstd")?;
        sizes.push((size32(packed.len())?, size32(part.len())?));
        stored.extend_from_slice(&packed);
    }
    append_seek_table(&mut stored, &sizes)?;
    Ok(stored)
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

/// `chunk` as the one form of an LZ4 frame that FORMAT.md
/// has: a single block, with the content's size and no checksums but the header's. (A block
/// that does not get smaller is of another form; then the frame is not used.)
fn lz4_frame(chunk: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let block_size = match chunk.len() {
        0..=0x1_0000 => BlockSize::Max64KB,
        0x1_0001..=0x4_0000 => BlockSize::Max256KB,
        0x4_0001..=0x10_0000 => BlockSize::Max1MB,
        _ => BlockSize::Max4MB,
    };
    let stored = Vec::with_capacity(chunk.len() / 2);
    let mut encoder = lz4::EncoderBuilder::new()
        .level(level)
        .block_size(block_size)
        .block_mode(BlockMode::Independent)
        .block_checksum(BlockChecksum::NoBlockChecksum)
        .checksum(ContentChecksum::NoChecksum)
        .content_size(chunk.len() as u64)
        .auto_flush(true)
        .build(stored)?;
    encoder.write_all(chunk)?;
    let (stored, result) = encoder.finish();
    result.map(|()| stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use puzzlefs_format::{Encoding, VERSION_LZ4};

    /// Words in no order: zstd makes far less of them than LZ4.
    fn words(len: usize) -> Vec<u8> {
        let words = [&b"chunk "[..], b"blob ", b"layer ", b"inode ", b"extent "];
        let mut seed = 1_u32;
        let mut text = Vec::with_capacity(len + 8);
        while text.len() < len {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend_from_slice(words[(seed >> 16) as usize % words.len()]);
        }
        text.truncate(len);
        text
    }

    /// Bytes that do not repeat.
    fn noise(len: usize) -> Vec<u8> {
        let mut seed = 1_u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn encode(compression: Compression, chunk: &[u8]) -> Option<(Codec, Vec<u8>)> {
        let mut encoder = Encoder::new(compression).unwrap();
        encoder.encode(chunk).unwrap()
    }

    #[test]
    fn lz4_frames_are_of_the_one_form() {
        for limit in [64 << 10, 256 << 10, 1 << 20] {
            for len in [limit - 1, limit, limit + 1] {
                let encoded = encode(Compression::lz4(1), &words(len));
                let (codec, stored) = encoded.unwrap();
                assert_eq!((codec, Codec::of(&stored, true)), (Codec::Lz4, Codec::Lz4));
                let encoding = Encoding::parse(&stored, VERSION_LZ4).unwrap();
                assert_eq!(encoding.decompressed_size(), len as u64);
            }
        }
    }

    #[test]
    fn what_does_not_get_smaller_stays_raw() {
        let nearly = [noise(40_000), vec![0; 1_100]].concat();
        let barely = [noise(40_000), vec![0; 1_500]].concat();
        for compression in [Compression::lz4(9), Compression::zstd(3)] {
            assert_eq!(encode(compression, &noise(40_000)), None);
            assert_eq!(encode(compression, &nearly), None);
            assert!(encode(compression, &barely).is_some());
        }
        assert_eq!(encode(Compression::default(), &words(1000)), None);
    }

    #[test]
    fn a_probe_tells_what_saves_little() {
        let mut probe = Probe::new().unwrap();
        for (content, saves) in [
            (words(5_000), true),
            (noise(5_000), false),
            ([words(400), noise(5_000)].concat(), false),
            ([words(2_000), noise(5_000)].concat(), true),
            (noise(100), true),
            (Vec::new(), true),
        ] {
            let len = content.len();
            assert_eq!(probe.saves(&content).unwrap(), saves, "{len} bytes");
        }
    }

    #[test]
    fn zstd_has_to_save_more_than_lz4() {
        let text = words(100_000);
        let [zstd, lz4] = [Compression::zstd(9), Compression::lz4(12)].map(|compression| {
            let (_, stored) = encode(compression, &text).unwrap();
            stored.len()
        });
        let saved = lz4 - zstd;
        for (unless, codec) in [
            (250, Codec::Lz4),
            // It would do, but does not look like it: the lowest level finds little of such a text.
            (saved * 1000 / text.len() + 1, Codec::Zstd),
            (saved * 1000 / text.len(), Codec::Zstd),
        ] {
            let both = Compression {
                zstd: Compression::zstd(9).zstd,
                lz4: Some(Lz4 { level: 12, unless }),
            };
            assert_eq!(
                encode(both, &text).unwrap().0,
                codec,
                "{unless} thousandths"
            );
        }
    }
}
