// SPDX-License-Identifier: Apache-2.0
//! Ready choices of chunk size and compression.
//!
//! A default is paid for by whoever builds, stores, moves and reads. So each of these is weighed
//! against the others (docs/profiles.md has the numbers, and how they are made):
//!
//! - Level 15 of zstd, which was the default, takes ten times the processor time of level 6 for 5% of
//!   the bytes. And the high levels find many short matches, each of which costs a reader more
//!   than the bytes that it saves. So matches have 6 bytes at least: that is 4% more to store, and a
//!   fifth less to decompress.
//! - In blocks of some 2 KiB, which have their tables in common, chunks are 0.6% larger, and a page
//!   at random needs those up to its own. Most chunks would be a single block, all of which has to be
//!   decompressed for one page.
//! - LZ4 costs a reader a quarter of zstd. A chunk is LZ4 unless zstd saves 70 thousandths of
//!   it more (balanced), or a quarter (fast): most of what programs consist of is on the edge
//!   there, so a little more or less moves many chunks. With 67, a Debian has 0.6% less, and a reader
//!   of all of it pays 2% more. Level 4 of LZ4 stores 1% more than
//!   level 12, in a tenth of the time.
//! - Chunks of 128 KiB take 3% less than those of 64 KiB. A page at random costs half as much
//!   again, and that is still less than of EROFS in clusters of 64 KiB, since decompression ends behind
//!   that page. With 256 KiB it is no more.
//! - Small files, up to half a chunk (128 KiB at most), are put together so that related images share
//!   them ([`crate::encode::batch`]), in chunks of twice balanced's average, in small too: of 512
//!   KiB, one image is 2% smaller, and ten related ones are 2 to 3% larger. Fast has none: its chunks
//!   come in the order of the walk.
//! - Metadata, of which readers use some for each name, are LZ4: of a Debian 2.25 MB become 0.66 MB,
//!   and by zstd (level 19) 0.46 MB. That is a fifth of a percent of the image; decompressing all took
//!   10 million instructions, and 28 million (a `stat` of all names: 180 million).
//! - A dictionary of 110 KiB, trained on a quarter of the chunks of a Debian, saves 6% of what zstd
//!   makes of them at level 15. It is not used: chunks that were compressed with different
//!   dictionaries are different chunks, so that images built apart would share none.
//! - Small is for bytes alone: a chunk of 512 KiB knows more of what can follow, but for a
//!   page read at random all before it is decompressed. Level 22 stores 0.01% less than level 19
//!   and takes half as much processor time again; level 9 stores 10% more, in a tenth of the
//!   time (a Debian: 6 s, and 67).
//!
//! `make bench` measures the three as points of size against reading, beside those of
//! other filesystems; `puzzlefs build --format json` prints what any tree takes.

use crate::base::error::Result;
use crate::encode::chunker::Policy;
use crate::encode::compress::{Compression, Lz4, Zstd};

/// Level of LZ4 for metadata. The highest takes 0.65 seconds for those of a Debian, of which each build
/// changes all, and this one 0.08; it makes 675 KB of them in place of 670.
const LZ4_METADATA: u32 = 9;

/// What an image is to be good at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Few bytes.
    Small,
    /// Reads that cost little, in few bytes.
    #[default]
    Balanced,
    /// Reads that cost as little as possible.
    Fast,
}

impl Profile {
    /// Average size of a chunk.
    pub fn chunk_size(self) -> usize {
        match self {
            Profile::Small => 512 << 10,
            Profile::Balanced => 128 << 10,
            Profile::Fast => Policy::DEFAULT_AVG,
        }
    }

    /// Where chunks begin and end, of this average size if not of the profile's own.
    pub fn policy(self, chunk_size: Option<usize>) -> Result<Policy> {
        let policy = Policy::new(chunk_size.unwrap_or(self.chunk_size()))?;
        Ok(match self {
            Profile::Small | Profile::Balanced => policy.with_batches(),
            Profile::Fast => policy,
        })
    }

    /// How blocks of the metadata are compressed.
    pub fn metadata(self) -> Compression {
        match self {
            Profile::Small => Compression::zstd(19),
            Profile::Balanced | Profile::Fast => Compression::lz4(LZ4_METADATA),
        }
    }

    /// How chunks are compressed.
    pub fn compression(self) -> Compression {
        let with_lz4 = |level, unless| Compression {
            zstd: Some(Zstd {
                level: 6,
                min_match: Some(6),
                frame: None,
                block: Some(2048),
            }),
            lz4: Some(Lz4 { level, unless }),
        };
        match self {
            Profile::Small => Compression::zstd(19),
            Profile::Balanced => with_lz4(4, 70),
            Profile::Fast => with_lz4(9, 250),
        }
    }
}
