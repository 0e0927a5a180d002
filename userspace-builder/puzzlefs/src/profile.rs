// SPDX-License-Identifier: Apache-2.0
//! Ready choices of chunk size and compression.
//!
//! What a reader pays is decompression, so that is weighed against bytes. A sample of
//! the chunks of 64 KiB of the tests' Debian tree, decompressed by libzstd 1.5.7 and
//! liblz4 1.10 under callgrind:
//!
//! | | stored, of the content | instructions a byte | building, CPU time |
//! |---|---|---|---|
//! | zstd 9 | 32.9% | 11.8 | 6 s |
//! | zstd 15 | 31.3% | 13.5 | 37 s |
//! | zstd 19 | 30.7% | 14.2 | 91 s |
//! | zstd 15, no matches of less than 5 bytes | 32.5% | 11.2 | 29 s |
//! | zstd 19, no matches of less than 5 bytes | 32.2% | 11.5 | 68 s |
//! | LZ4 12 | 40.9% | 3.0 | 23 s |
//!
//! The high levels of zstd find many short matches, each of which costs a reader more than
//! the bytes that it saves; without them they are better than level 9 in both. In an image
//! that takes LZ4 unless zstd 15 saves a sixteenth of the chunk more, 12% of the bytes
//! are LZ4: 1.6% more is stored, and a byte costs 10.2 instructions. At a quarter
//! 95% are LZ4, and 1% zstd.
//!
//! Small is for bytes alone: a chunk of 512 KiB knows more of what can follow, but for a page
//! read at random all before it is decompressed. `puzzlefs build --format json` prints
//! what an image takes (`chunk_bytes`, `rootfs_bytes`), so a loop over `--profile`,
//! `--chunk-size` and `--compression` compares them for any tree.

use crate::chunker::Policy;
use crate::compress::{Compression, Lz4, Zstd, LZ4_LEVEL};

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
            Profile::Balanced | Profile::Fast => Policy::DEFAULT_AVG,
        }
    }

    /// How chunks are compressed.
    pub fn compression(self) -> Compression {
        let with_lz4 = |unless| Compression {
            zstd: Some(Zstd {
                level: 15,
                min_match: Some(5),
                frame: None,
            }),
            lz4: Some(Lz4 {
                level: LZ4_LEVEL,
                unless,
            }),
        };
        match self {
            Profile::Small => Compression::zstd(22),
            Profile::Balanced => with_lz4(16),
            Profile::Fast => with_lz4(4),
        }
    }
}
