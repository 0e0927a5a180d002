// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Packs: many chunks in one blob, with an index at its end (FORMAT.md, section 1.1).
//!
//! A pack's index says where a chunk might be, and is not to be trusted: whoever
//! reads a chunk checks its digest. So nothing here is checked twice, and a pack that
//! lies makes chunks unreadable, never wrong.

use crate::{capnp, limits, Digest, Error};
use core::cmp::Ordering;

/// Media type of the layers that are packs.
pub const MEDIA_TYPE_PACK: &str = "application/vnd.puzzlefs.image.pack.v1";

/// The last four bytes.
const MAGIC: [u8; 4] = *b"PzPk";

/// Where things are in an entry of the index.
const OFFSET: usize = Digest::BYTES;
const SIZE: usize = OFFSET.saturating_add(4);

/// The end of a pack: says where its index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackTrailer {
    count: u32,
    index_offset: u64,
}

impl PackTrailer {
    /// Bytes of a trailer.
    pub const BYTES: usize = 8;

    /// The trailer of a pack of `count` chunks.
    pub fn to_bytes(count: u32) -> [u8; Self::BYTES] {
        let [c0, c1, c2, c3] = count.to_le_bytes();
        let [m0, m1, m2, m3] = MAGIC;
        [c0, c1, c2, c3, m0, m1, m2, m3]
    }

    /// Parses the last bytes of a pack of `pack_bytes` bytes.
    pub fn parse(trailer: [u8; Self::BYTES], pack_bytes: u64) -> Result<Self, Error> {
        let [c0, c1, c2, c3, magic @ ..] = trailer;
        if magic != MAGIC {
            return Err(Error::BadPack);
        }
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        if pack_bytes > limits::MAX_PACK_BYTES || count > limits::MAX_PACK_CHUNKS {
            return Err(Error::LimitExceeded);
        }
        let behind_chunks = Self::index_bytes_of(count)
            .and_then(|bytes| u64::try_from(bytes.checked_add(Self::BYTES)?).ok())
            .ok_or(Error::LimitExceeded)?;
        Ok(Self {
            count,
            index_offset: pack_bytes
                .checked_sub(behind_chunks)
                .ok_or(Error::BadPack)?,
        })
    }

    fn index_bytes_of(count: u32) -> Option<usize> {
        usize::try_from(count).ok()?.checked_mul(PackEntry::BYTES)
    }

    /// Number of chunks.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where the index begins in the pack, and the chunks end.
    pub fn index_offset(&self) -> u64 {
        self.index_offset
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> usize {
        Self::index_bytes_of(self.count).unwrap_or(0)
    }
}

/// What an index says of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// The digest of its bytes as stored.
    pub digest: Digest,
    /// Where they begin in the pack.
    pub offset: u32,
    /// How many they are; at most [`limits::MAX_CHUNK_BYTES`], never 0.
    pub size: u32,
}

impl PackEntry {
    /// Bytes of an entry.
    pub const BYTES: usize = SIZE.saturating_add(4);

    /// The entry as it is stored.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = self.digest.as_bytes().iter().copied();
        let fields = fields
            .chain(self.offset.to_le_bytes())
            .chain(self.size.to_le_bytes());
        for (byte, field) in bytes.iter_mut().zip(fields) {
            *byte = field;
        }
        bytes
    }

    /// The entry in `bytes`, of a pack whose chunks end at `index_offset`.
    fn parse(bytes: &[u8], index_offset: u64) -> Result<Self, Error> {
        let field = |at| capnp::array(bytes, at).map(u32::from_le_bytes);
        let entry = match (capnp::array(bytes, 0), field(OFFSET), field(SIZE)) {
            (Some(digest), Some(offset), Some(size)) => Self {
                digest: Digest::from_bytes(digest),
                offset,
                size,
            },
            _ => return Err(Error::Truncated),
        };
        let size = u64::from(entry.size);
        let end = u64::from(entry.offset).saturating_add(size);
        if size == 0 || size > limits::MAX_CHUNK_BYTES || end > index_offset {
            return Err(Error::BadPack);
        }
        Ok(entry)
    }
}

/// The index of a pack: an entry for each chunk, in ascending order of the digests.
#[derive(Clone, Copy, Debug)]
pub struct PackIndex<'a> {
    entries: &'a [u8],
    index_offset: u64,
}

impl<'a> PackIndex<'a> {
    /// The index in `bytes`, the [`PackTrailer::index_bytes`] in front of `trailer`. No work
    /// for its entries.
    pub fn new(bytes: &'a [u8], trailer: &PackTrailer) -> Result<Self, Error> {
        if bytes.len() != trailer.index_bytes() {
            return Err(Error::Truncated);
        }
        Ok(Self {
            entries: bytes,
            index_offset: trailer.index_offset(),
        })
    }

    /// Where the entry of the chunk with this digest is. In an index that is not in order it
    /// may not be found.
    pub fn find(&self, digest: &Digest) -> Option<u32> {
        let count = self.entries.len().checked_div(PackEntry::BYTES)?;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.bytes_of(middle)?.get(..OFFSET)?.cmp(digest.as_bytes()) {
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Equal => return u32::try_from(middle).ok(),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The entry at `place`.
    pub fn get(&self, place: u32) -> Result<PackEntry, Error> {
        let place = usize::try_from(place).ok();
        let bytes = place.and_then(|place| self.bytes_of(place));
        PackEntry::parse(bytes.ok_or(Error::Truncated)?, self.index_offset)
    }

    fn bytes_of(&self, place: usize) -> Option<&'a [u8]> {
        let start = place.checked_mul(PackEntry::BYTES)?;
        self.entries
            .get(start..start.checked_add(PackEntry::BYTES)?)
    }

    /// All entries, as they come.
    pub fn iter(&self) -> impl Iterator<Item = Result<PackEntry, Error>> + 'a {
        let index_offset = self.index_offset;
        self.entries
            .chunks_exact(PackEntry::BYTES)
            .map(move |bytes| PackEntry::parse(bytes, index_offset))
    }
}
