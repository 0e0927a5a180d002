// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! The seek table at the end of a compressed chunk: zstd's seekable format
//! (zstd/contrib/seekable_format/zstd_seekable_compression_format.md, 0.1.0).

use crate::{capnp, limits, Error};

/// Magic number of the skippable frame that holds the table.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a5e;

/// Magic number of the last four bytes.
const SEEKABLE_MAGIC: u32 = 0x8f92_eab1;

/// Bytes of a skippable frame's header: its magic and the size of what follows.
const HEADER_BYTES: usize = 8;

/// Bytes of the footer: number of frames, descriptor, magic.
const FOOTER_BYTES: usize = 9;

/// Descriptor: every entry has a checksum.
const HAS_CHECKSUM: u8 = 1 << 7;

/// Descriptor: bits that must be zero.
const RESERVED: u8 = 0b0111_1100;

/// One frame of a compressed chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins in the chunk as stored.
    pub stored_offset: u64,
    /// Its size there, header and all; never 0.
    pub stored_size: u64,
    /// Where what comes out of it begins in the decompressed chunk.
    pub offset: u64,
    /// The size of that; 0 for the empty frame that an encoder may end with.
    pub size: u64,
}

/// A seek table that covers its chunk exactly.
#[derive(Clone, Copy, Debug)]
pub struct SeekTable<'a> {
    entries: &'a [u8],
    entry_bytes: usize,
    decompressed_size: u64,
}

/// What the footer says.
struct Footer {
    frames: u32,
    entry_bytes: usize,
}

impl Footer {
    fn parse(tail: &[u8]) -> Result<Self, Error> {
        let footer: &[u8; FOOTER_BYTES] = tail.last_chunk().ok_or(Error::BadSeekTable)?;
        let [f0, f1, f2, f3, descriptor, m0, m1, m2, m3] = *footer;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        if magic != SEEKABLE_MAGIC || descriptor & RESERVED != 0 {
            return Err(Error::BadSeekTable);
        }
        let frames = u32::from_le_bytes([f0, f1, f2, f3]);
        if frames > limits::MAX_FRAMES {
            return Err(Error::LimitExceeded);
        }
        let entry_bytes = if descriptor & HAS_CHECKSUM != 0 {
            12
        } else {
            8
        };
        Ok(Self {
            frames,
            entry_bytes,
        })
    }

    fn entries_bytes(&self) -> Option<usize> {
        usize::try_from(self.frames)
            .ok()?
            .checked_mul(self.entry_bytes)
    }

    fn table_bytes(&self) -> Option<usize> {
        self.entries_bytes()?
            .checked_add(HEADER_BYTES.checked_add(FOOTER_BYTES)?)
    }
}

impl<'a> SeekTable<'a> {
    /// Parses the table of a chunk that is at hand in full.
    pub fn parse(stored: &'a [u8]) -> Result<Self, Error> {
        let stored_size = u64::try_from(stored.len()).map_err(|_| Error::LimitExceeded)?;
        Self::parse_tail(stored, stored_size)
    }

    /// Parses the table of a chunk of `stored_size` bytes of which `tail` is the
    /// end, [`Self::tail_size`] bytes or more.
    pub fn parse_tail(tail: &'a [u8], stored_size: u64) -> Result<Self, Error> {
        if stored_size > limits::MAX_CHUNK_BYTES {
            return Err(Error::LimitExceeded);
        }
        let footer = Footer::parse(tail)?;
        let table_bytes = footer.table_bytes().ok_or(Error::BadSeekTable)?;
        let entries_bytes = footer.entries_bytes().ok_or(Error::BadSeekTable)?;
        let start = tail
            .len()
            .checked_sub(table_bytes)
            .ok_or(Error::Truncated)?;
        let (_, table) = tail.split_at_checked(start).ok_or(Error::Truncated)?;
        let (header, table) = table
            .split_at_checked(HEADER_BYTES)
            .ok_or(Error::Truncated)?;

        let magic = capnp::array(header, 0).map(u32::from_le_bytes);
        let size = capnp::array(header, 4).map(u32::from_le_bytes);
        let is_header = magic == Some(SKIPPABLE_MAGIC)
            && size.and_then(|size| usize::try_from(size).ok()) == Some(table.len());
        if !is_header {
            return Err(Error::BadSeekTable);
        }

        let mut this = Self {
            entries: table.get(..entries_bytes).ok_or(Error::Truncated)?,
            entry_bytes: footer.entry_bytes,
            decompressed_size: 0,
        };
        let mut stored_end = 0;
        for frame in this.frames() {
            if frame.stored_size == 0 {
                return Err(Error::BadSeekTable);
            }
            // Neither overflows: MAX_FRAMES sizes of 32 bits.
            stored_end = frame.stored_offset.saturating_add(frame.stored_size);
            this.decompressed_size = frame.offset.saturating_add(frame.size);
        }
        let table_bytes = u64::try_from(table_bytes).map_err(|_| Error::BadSeekTable)?;
        if stored_end.checked_add(table_bytes) != Some(stored_size) {
            return Err(Error::BadSeekTable);
        }
        if this.decompressed_size > limits::MAX_CHUNK_BYTES {
            return Err(Error::LimitExceeded);
        }
        Ok(this)
    }

    /// How many bytes of a chunk's end are its table. `tail` is its end, 9 bytes
    /// or more.
    pub fn tail_size(tail: &[u8]) -> Result<usize, Error> {
        Footer::parse(tail)?
            .table_bytes()
            .ok_or(Error::BadSeekTable)
    }

    /// Size of the chunk when decompressed.
    #[inline]
    pub fn decompressed_size(&self) -> u64 {
        self.decompressed_size
    }

    /// All frames, from the first to the last.
    #[inline]
    pub fn frames(&self) -> Frames<'a> {
        Frames {
            entries: self.entries,
            entry_bytes: self.entry_bytes,
            stored_offset: 0,
            offset: 0,
        }
    }
}

/// Iterates over the frames of a chunk.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    entries: &'a [u8],
    entry_bytes: usize,
    stored_offset: u64,
    offset: u64,
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        let (entry, rest) = self.entries.split_at_checked(self.entry_bytes)?;
        if entry.is_empty() {
            return None;
        }
        self.entries = rest;
        let frame = Frame {
            stored_offset: self.stored_offset,
            stored_size: u32::from_le_bytes(capnp::array(entry, 0)?).into(),
            offset: self.offset,
            size: u32::from_le_bytes(capnp::array(entry, 4)?).into(),
        };
        self.stored_offset = self.stored_offset.saturating_add(frame.stored_size);
        self.offset = self.offset.saturating_add(frame.size);
        Some(frame)
    }
}

impl core::iter::FusedIterator for Frames<'_> {}
