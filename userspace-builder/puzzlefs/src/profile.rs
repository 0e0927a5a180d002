// SPDX-License-Identifier: Apache-2.0
//! Ready choices of chunk size and compression.

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
