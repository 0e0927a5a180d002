// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! A chunk compressed by LZ4: the one form of an LZ4 frame (lz4/doc/lz4_Frame_format.md,
//! 1.6.4) that chunks may have. Tools for LZ4 read it, and it is found out at once
//! where the block is and how large its content.

use crate::{limits, Error};

/// Magic number of an LZ4 frame.
const MAGIC: u32 = 0x184d_2204;

/// FLG: bits 6 and 7 are the version, 1; bit 3 says that there is a content size.
const FLAGS: u8 = (1 << 6) | (1 << 3);

/// FLG: blocks are independent. Of one block it says nothing, so it may be either.
const INDEPENDENT: u8 = 1 << 5;

/// Block size: the block's content is as it is, not compressed.
const UNCOMPRESSED: u32 = 1 << 31;

/// In the place of a block's size: no block follows.
const END_MARK: u32 = 0;

/// A frame of one compressed block, of which both sizes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lz4Frame<'a> {
    block: &'a [u8],
    size: u64,
}

impl<'a> Lz4Frame<'a> {
    /// Parses a chunk that is at hand in full. What is in the block is not looked at.
    pub fn parse(stored: &'a [u8]) -> Result<Self, Error> {
        let stored_size = u64::try_from(stored.len()).map_err(|_| Error::LimitExceeded)?;
        if stored_size > limits::MAX_CHUNK_BYTES {
            return Err(Error::LimitExceeded);
        }
        let rest = stored.strip_prefix(&MAGIC.to_le_bytes());
        let rest = rest.ok_or(Error::BadLz4Frame)?;
        // Its checksum, the third byte, need not be checked: the chunk's digest was.
        let (&[flags, block_max], rest) = rest.split_first_chunk().ok_or(Error::Truncated)?;
        let (size, rest) = rest.split_first_chunk().ok_or(Error::Truncated)?;
        let (_, rest) = rest.split_first().ok_or(Error::Truncated)?;
        let (block_size, rest) = rest.split_first_chunk().ok_or(Error::Truncated)?;

        let size = u64::from_le_bytes(*size);
        let block_max: u64 = match block_max {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(Error::BadLz4Frame),
        };
        let block_size = u32::from_le_bytes(*block_size);
        let is_ours = flags & !INDEPENDENT == FLAGS
            && (1..=block_max).contains(&size)
            && block_size != END_MARK
            && block_size & UNCOMPRESSED == 0;
        if !is_ours {
            return Err(Error::BadLz4Frame);
        }
        if size > limits::MAX_CHUNK_BYTES {
            return Err(Error::LimitExceeded);
        }
        let block_size = usize::try_from(block_size).map_err(|_| Error::LimitExceeded)?;
        let (block, end) = rest.split_at_checked(block_size).ok_or(Error::Truncated)?;
        if end != END_MARK.to_le_bytes() {
            return Err(Error::BadLz4Frame);
        }
        Ok(Self { block, size })
    }

    /// Whether a compressed chunk that begins like this is one of LZ4.
    pub fn has_magic(stored: &[u8]) -> bool {
        stored.starts_with(&MAGIC.to_le_bytes())
    }

    /// The LZ4 block (lz4/doc/lz4_Block_format.md). It may be malformed.
    #[inline]
    pub fn block(&self) -> &'a [u8] {
        self.block
    }

    /// Size of the chunk when decompressed: what must come out of the block.
    #[inline]
    pub fn decompressed_size(&self) -> u64 {
        self.size
    }
}
