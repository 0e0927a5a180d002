// SPDX-License-Identifier: Apache-2.0
//! What the stored bytes of a chunk are.

use puzzlefs_format::{Lz4Frame, MEDIA_TYPE_CHUNK, MEDIA_TYPE_CHUNK_LZ4, MEDIA_TYPE_CHUNK_ZSTD};

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Raw,
    /// As zstd frames with a seek table.
    Zstd,
    /// As an LZ4 frame.
    Lz4,
}

impl Codec {
    /// How the chunk is stored whose bytes these are, if `compressed` says what the metadata do.
    pub fn of(stored: &[u8], compressed: bool) -> Self {
        match compressed {
            false => Codec::Raw,
            true if Lz4Frame::has_magic(stored) => Codec::Lz4,
            true => Codec::Zstd,
        }
    }

    /// What the metadata say of such a chunk.
    pub fn is_compressed(self) -> bool {
        self != Codec::Raw
    }

    /// The media type of such a chunk.
    pub fn media_type(self) -> &'static str {
        match self {
            Codec::Raw => MEDIA_TYPE_CHUNK,
            Codec::Zstd => MEDIA_TYPE_CHUNK_ZSTD,
            Codec::Lz4 => MEDIA_TYPE_CHUNK_LZ4,
        }
    }
}
