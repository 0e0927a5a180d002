// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! One zstd frame of a chunk (RFC 8878, section 3.1.1): all that can be known of it without
//! decompressing anything.

use crate::{Error, Frame};

/// Magic number of a zstd frame.
const MAGIC: u32 = 0xfd2f_b528;

/// Descriptor: where the bits begin that say how long the content's size is.
const SIZE_SHIFT: u32 = 6;

/// Descriptor: the window is as large as the content, and has no byte.
const SINGLE_SEGMENT: u8 = 1 << 5;

/// Descriptor: must be zero.
const RESERVED: u8 = 1 << 3;

/// Descriptor: a checksum follows the last block.
const HAS_CHECKSUM: u8 = 1 << 2;

/// Descriptor: there is the number of a dictionary.
const DICTIONARY: u8 = 0b11;

/// The checksum of no content.
const CHECKSUM_OF_NOTHING: u32 = 0x51d8_e999;

/// The log of the smallest window.
const MIN_WINDOW_LOG: u32 = 10;

/// The log of the largest window that zstd's library decodes.
const MAX_WINDOW_LOG: u32 = 31;

/// Most bytes of a block, as stored and decompressed, where the window is not smaller.
const MAX_BLOCK_BYTES: u64 = 128 << 10;

/// Fewest bytes of a compressed block: literals and sequences have a byte of header each.
const MIN_COMPRESSED_BYTES: u64 = 2;

/// Most bytes of content of a frame that counts as short.
const SHORT_BYTES: u64 = 1 << 20;

/// How much longer than its content a short frame may be as stored. zstd's library makes none
/// longer by that much.
const SHORT_EXCESS: u64 = 8 << 10;

/// A frame whose header is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZstdFrame<'a> {
    stored: &'a [u8],
    blocks: &'a [u8],
    content: u64,
    window: u64,
    has_checksum: bool,
}

impl<'a> ZstdFrame<'a> {
    /// Parses the header of `frame` of `chunk`, which is at hand in full. A content size there
    /// must be that of the seek table.
    ///
    /// # Errors
    ///
    /// [`Error::BadZstdFrame`], [`Error::Truncated`].
    pub fn parse(chunk: &'a [u8], frame: &Frame) -> Result<Self, Error> {
        let end = frame.stored_offset.checked_add(frame.stored_size);
        let range = usize::try_from(frame.stored_offset)
            .ok()
            .zip(end.and_then(|end| usize::try_from(end).ok()));
        let (start, end) = range.ok_or(Error::Truncated)?;
        let stored = chunk.get(start..end).ok_or(Error::Truncated)?;

        let rest = stored.strip_prefix(&MAGIC.to_le_bytes());
        let (&descriptor, mut rest) = rest
            .ok_or(Error::BadZstdFrame)?
            .split_first()
            .ok_or(Error::Truncated)?;
        if descriptor & (RESERVED | DICTIONARY) != 0 {
            return Err(Error::BadZstdFrame);
        }
        let is_single = descriptor & SINGLE_SEGMENT != 0;
        let mut window = 0;
        if !is_single {
            window = take(&mut rest).map(|[byte]| window_size(byte))??;
        }
        let size = match descriptor >> SIZE_SHIFT {
            0 if !is_single => None,
            0 => Some(take(&mut rest).map(|[byte]| u64::from(byte))?),
            1 => Some(u64::from(u16::from_le_bytes(take(&mut rest)?)).saturating_add(256)),
            2 => Some(u32::from_le_bytes(take(&mut rest)?).into()),
            _ => Some(u64::from_le_bytes(take(&mut rest)?)),
        };
        if size.is_some_and(|size| size != frame.size) {
            return Err(Error::BadZstdFrame);
        }
        Ok(Self {
            stored,
            blocks: rest,
            content: frame.size,
            window: if is_single { frame.size } else { window },
            has_checksum: descriptor & HAS_CHECKSUM != 0,
        })
    }

    /// Goes through the headers of the blocks, at most one for every three bytes of the frame:
    /// whether the last one ends where the frame does, but for a checksum, and whether what the
    /// others say can add up to the content.
    ///
    /// An empty frame has nothing to decompress after that.
    ///
    /// # Errors
    ///
    /// [`Error::BadZstdFrame`], [`Error::Truncated`].
    pub fn check_blocks(&self) -> Result<(), Error> {
        let block_max = self.window.min(MAX_BLOCK_BYTES);
        let mut rest = self.blocks;
        // What is known to come out, and what may come out of compressed blocks. Neither
        // overflows: a chunk has 1.25 MiB.
        let (mut known, mut more) = (0_u64, 0_u64);
        loop {
            let [a, b, c] = take(&mut rest)?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            let size = u64::from(header >> 3);
            let stored = match (header >> 1) & 3 {
                // Raw, and one byte that is repeated.
                kind @ 0..=1 => {
                    known = known.saturating_add(size);
                    if kind == 0 {
                        size
                    } else {
                        1
                    }
                }
                2 if size >= MIN_COMPRESSED_BYTES => {
                    more = more.saturating_add(block_max);
                    size
                }
                _ => return Err(Error::BadZstdFrame),
            };
            if size > block_max {
                return Err(Error::BadZstdFrame);
            }
            let stored = usize::try_from(stored).map_err(|_| Error::Truncated)?;
            rest = rest.get(stored..).ok_or(Error::Truncated)?;
            if header & 1 != 0 {
                break;
            }
        }
        if self.has_checksum {
            let checksum = u32::from_le_bytes(take(&mut rest)?);
            if self.content == 0 && checksum != CHECKSUM_OF_NOTHING {
                return Err(Error::BadZstdFrame);
            }
        }
        let adds_up = (known..=known.saturating_add(more)).contains(&self.content);
        if !rest.is_empty() || !adds_up || (self.content == 0 && more > 0) {
            return Err(Error::BadZstdFrame);
        }
        Ok(())
    }

    /// The frame, header and all.
    #[inline]
    pub fn stored(&self) -> &'a [u8] {
        self.stored
    }

    /// What follows the header: blocks, and perhaps a checksum.
    #[inline]
    pub fn blocks(&self) -> &'a [u8] {
        self.blocks
    }

    /// Whether a checksum follows the blocks: of such a frame nothing is to be used before all
    /// is decompressed.
    #[inline]
    pub fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    /// Whether it may be decompressed by one call of zstd, which takes some milliseconds then. No
    /// match can reach further back than the window, so by the stream of
    /// [`ZstdFrame::stream_header`] the same comes out.
    #[inline]
    pub fn is_short(&self) -> bool {
        let stored = u64::try_from(self.stored.len()).unwrap_or(u64::MAX);
        self.content <= self.window.min(SHORT_BYTES)
            && stored <= self.content.saturating_add(SHORT_EXCESS)
    }

    /// The window of [`ZstdFrame::stream_header`]: not smaller than the content.
    pub fn stream_window(&self) -> u64 {
        1_u64.checked_shl(self.stream_window_log()).unwrap_or(0)
    }

    fn stream_window_log(&self) -> u32 {
        // Blocks may be as large as by its own header.
        let least = self.content.max(self.window.min(MAX_BLOCK_BYTES));
        let log = least.saturating_sub(1).checked_ilog2();
        let log = log.map_or(0, |log| log.saturating_add(1));
        log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)
    }

    /// A header to put in the place of its own where it is decompressed little by little. Its
    /// window is not smaller than the content, so zstd keeps all of that in one piece, and a match
    /// that reaches further back than the frame's own window finds there what was decompressed.
    /// It says no size, so what zstd takes does not depend on the memory that it has: whoever
    /// uses it has to see that the frame ends where its content does.
    pub fn stream_header(&self) -> [u8; 6] {
        let [m0, m1, m2, m3] = MAGIC.to_le_bytes();
        let descriptor = if self.has_checksum { HAS_CHECKSUM } else { 0 };
        let exponent = self.stream_window_log().saturating_sub(MIN_WINDOW_LOG);
        let window = u8::try_from(exponent << 3).unwrap_or(u8::MAX);
        [m0, m1, m2, m3, descriptor, window]
    }
}

/// The size that a header's byte for the window stands for.
fn window_size(byte: u8) -> Result<u64, Error> {
    let log = u32::from(byte >> 3).saturating_add(MIN_WINDOW_LOG);
    if log > MAX_WINDOW_LOG {
        return Err(Error::BadZstdFrame);
    }
    let base = 1_u64.checked_shl(log).ok_or(Error::BadZstdFrame)?;
    let eighths = u64::from(byte & 7).saturating_mul(base >> 3);
    Ok(base.saturating_add(eighths))
}

/// The first `N` bytes of `rest`, which loses them.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (bytes, tail) = rest.split_first_chunk().ok_or(Error::Truncated)?;
    *rest = tail;
    Ok(*bytes)
}
