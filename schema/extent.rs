// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! What a file consists of: parts of chunks, and holes.

use crate::capnp::List;
use crate::{limits, Digest, Error};
use core::ops::Range;

// FileChunk: bytes of data, pointers.
const LEN: usize = 0;
const BLOB: u16 = 0;

// BlobRef: bytes of data, pointers.
const OFFSET: usize = 0;
const COMPRESSED: usize = 8;
const DIGEST: u16 = 0;

/// The parts of a file, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Extents<'a> {
    chunks: List<'a>,
    recorded: u64,
    allow_holes: bool,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where its bytes are; `None` for a hole, which reads as zeros.
    pub chunk: Option<ChunkRef>,
    /// How many they are; never 0.
    pub len: u64,
}

impl Extent {
    /// Where it ends if it begins at `start` in the file.
    #[inline]
    pub fn end(&self, start: u64) -> Result<u64, Error> {
        match start.checked_add(self.len) {
            Some(end) if end <= limits::MAX_FILE_BYTES => Ok(end),
            _ => Err(Error::LimitExceeded),
        }
    }
}

/// A place in a chunk. With the extent's length it lies within
/// [`limits::MAX_CHUNK_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk: the sha256 of its bytes as stored.
    pub digest: Digest,
    /// Where in the decompressed chunk.
    pub offset: u64,
    /// Whether the chunk is stored as zstd frames with a seek table
    /// ([`crate::SeekTable`]).
    pub compressed: bool,
}

impl<'a> Extents<'a> {
    pub(crate) fn new(chunks: List<'a>, recorded: u64, allow_holes: bool) -> Result<Self, Error> {
        if chunks.len() > limits::MAX_EXTENTS || recorded > limits::MAX_FILE_BYTES {
            return Err(Error::LimitExceeded);
        }
        Ok(Self {
            chunks,
            recorded,
            allow_holes,
        })
    }

    /// Number of extents.
    #[inline]
    pub fn len(&self) -> u32 {
        self.chunks.len()
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Extent `index`.
    #[inline]
    pub fn get(&self, index: u32) -> Result<Extent, Error> {
        let extent = self.chunks.get(index)?;
        let len = extent.u64(LEN);
        let Some(blob) = extent.structure(BLOB)? else {
            if len == 0 || !self.allow_holes {
                return Err(Error::BadExtent);
            }
            return Ok(Extent { chunk: None, len });
        };
        let offset = blob.u64(OFFSET);
        let end = offset.checked_add(len).ok_or(Error::LimitExceeded)?;
        if end > limits::MAX_CHUNK_BYTES {
            return Err(Error::LimitExceeded);
        }
        if len == 0 {
            return Err(Error::BadExtent);
        }
        let digest = blob.array(DIGEST)?.ok_or(Error::BadDigest)?;
        let chunk = ChunkRef {
            digest: Digest::from_bytes(digest),
            offset,
            compressed: blob.bit0(COMPRESSED),
        };
        Ok(Extent {
            chunk: Some(chunk),
            len,
        })
    }

    /// All extents, from the first to the last.
    pub fn iter(&self) -> impl Iterator<Item = Result<Extent, Error>> + 'a {
        let this = *self;
        (0..this.len()).map(move |index| this.get(index))
    }

    /// Calls `function` with each of these extents. Of a message that is not in memory it borrows
    /// no more than it needs for some of them.
    pub fn for_each(
        &self,
        range: Range<u32>,
        mut function: impl FnMut(Extent) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut next = range.start;
        while next < range.end {
            self.chunks.scope(|chunks| {
                let first = next;
                let extents = Extents {
                    chunks,
                    recorded: self.recorded,
                    allow_holes: self.allow_holes,
                };
                while next < range.end && (next == first || !extents.chunks.is_full()) {
                    function(extents.get(next)?)?;
                    next = next.saturating_add(1);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// How many bytes are in holes. Looks at every extent.
    pub fn holes(&self) -> Result<u64, Error> {
        let mut holes: u64 = 0;
        self.for_each(0..self.len(), |extent| {
            if extent.chunk.is_none() {
                holes = holes.checked_add(extent.len).ok_or(Error::LimitExceeded)?;
            }
            Ok(())
        })?;
        Ok(holes)
    }

    /// The file's size as recorded, for those who do not need it proved; `None` if
    /// only [`Self::total`] can tell, which is so in images before version 6 only.
    #[inline]
    pub fn recorded(&self) -> Option<u64> {
        (self.recorded != 0 || self.is_empty()).then_some(self.recorded)
    }

    /// Extent `index`, which begins at `start` in the file, and where it ends: for [`locate`].
    #[inline]
    pub fn get_from(&self, index: u32, start: u64) -> Result<(Extent, u64), Error> {
        let extent = self.get(index)?;
        Ok((extent, extent.end(start)?))
    }

    /// Where these extents end, which begin at `start` in the file: to add them up in steps.
    pub fn end_of(&self, range: Range<u32>, start: u64) -> Result<u64, Error> {
        let mut end = start;
        self.for_each(range, |extent| {
            end = extent.end(end)?;
            Ok(())
        })?;
        Ok(end)
    }

    /// The file's size, proved: the sum of its extents, which is the recorded size
    /// if there is one. Looks at every extent.
    pub fn total(&self) -> Result<u64, Error> {
        self.proved(self.end_of(0..self.len(), 0)?)
    }

    /// `total`, the sum of all extents, if the recorded size is the same or there is none.
    pub fn proved(&self, total: u64) -> Result<u64, Error> {
        match self.recorded() {
            Some(recorded) if recorded != total => Err(Error::SizeMismatch),
            _ => Ok(total),
        }
    }
}

/// Where a position of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// In which extent.
    pub index: usize,
    /// How far behind that extent's begin.
    pub within: u64,
    /// How many bytes of that extent begin there; never 0.
    pub left: u64,
}

/// Finds position `pos` among extents that end at `ends` ([`Extents::get_from`]); `None`
/// at the file's end and behind it.
#[inline]
pub fn locate(ends: &[u64], pos: u64) -> Option<Located> {
    let index = ends.partition_point(|end| *end <= pos);
    let start = match index.checked_sub(1) {
        Some(last) => *ends.get(last)?,
        None => 0,
    };
    Some(Located {
        index,
        within: pos.checked_sub(start)?,
        left: ends.get(index)?.checked_sub(pos)?,
    })
}
