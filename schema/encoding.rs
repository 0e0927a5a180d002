// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! How a compressed chunk is compressed.

use crate::{Error, Lz4Frame, SeekTable, ZstdFrame, VERSION_LZ4};

/// The form of a compressed chunk. Its first bytes tell: an LZ4 frame begins with a
/// magic number that no zstd frame has.
#[derive(Clone, Copy, Debug)]
pub enum Encoding<'a> {
    /// zstd frames and a seek table. Each frame is sound but for what is in its compressed
    /// blocks ([`ZstdFrame::check_blocks`]).
    Zstd(SeekTable<'a>),
    /// One LZ4 block.
    Lz4(Lz4Frame<'a>),
}

impl<'a> Encoding<'a> {
    /// Parses a chunk that is at hand in full, of an image of `version`
    /// ([`crate::Rootfs::version`]).
    ///
    /// # Errors
    ///
    /// Also [`Error::UnexpectedLz4`]: readers of versions before 5 know no LZ4, so an
    /// image that says it is for them must not have any.
    pub fn parse(stored: &'a [u8], version: u64) -> Result<Self, Error> {
        if !Lz4Frame::has_magic(stored) {
            let table = SeekTable::parse(stored)?;
            for frame in table.frames() {
                ZstdFrame::parse(stored, &frame)?.check_blocks()?;
            }
            return Ok(Self::Zstd(table));
        }
        if !Self::may_be_lz4(version) {
            return Err(Error::UnexpectedLz4);
        }
        Lz4Frame::parse(stored).map(Self::Lz4)
    }

    /// Whether images of `version` may have LZ4 chunks.
    #[inline]
    pub const fn may_be_lz4(version: u64) -> bool {
        version >= VERSION_LZ4
    }

    /// Size of the chunk when decompressed.
    #[inline]
    pub fn decompressed_size(&self) -> u64 {
        match self {
            Self::Zstd(table) => table.decompressed_size(),
            Self::Lz4(frame) => frame.decompressed_size(),
        }
    }
}
