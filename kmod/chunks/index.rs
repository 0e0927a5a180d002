// SPDX-License-Identifier: GPL-2.0

//! Indexes of packs, as they are stored. Mounts that have the same file for a pack share one.
//!
//! An index is a hint: the reader of a chunk that was found by it checks the digest. And each of
//! the mounts has opened the file itself, with the credentials of its mounter.

use crate::{
    report::errno,
    tables::{Lent, Table},
};
use kernel::prelude::*;
use puzzlefs_format::{self as format, PackIndex, PackTrailer};
use vfs::lower::{FileId, LowerFile};

/// The index of a pack.
pub(crate) struct Index {
    trailer: PackTrailer,
    bytes: KVVec<u8>,
    /// Of the pack.
    size: u64,
}

/// The indexes that are in use.
pub(crate) type Indexes = Table<FileId, Index>;

/// An index that is there at least until this is dropped.
pub(crate) type LoadedIndex = Lent<FileId, Index>;

impl Index {
    /// Loads the index of the pack `file`.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when that is no pack, `ENOMEM`, and what reading says.
    pub(crate) fn load(file: &LowerFile) -> Result<Self> {
        let size = file.size();
        let mut trailer = [0; PackTrailer::BYTES];
        let at = size.checked_sub(trailer.len() as u64);
        let at = at.ok_or_else(|| errno(format::Error::BadPack))?;
        file.read_exact(&mut trailer, at)?;
        let trailer = PackTrailer::parse(trailer, size).map_err(errno)?;
        let mut bytes = KVVec::zeroed(trailer.index_bytes(), GFP_KERNEL_ACCOUNT)?;
        file.read_exact(&mut bytes, trailer.index_offset())?;
        Ok(Self {
            trailer,
            bytes,
            size,
        })
    }

    /// Number of chunks.
    pub(crate) fn count(&self) -> u32 {
        self.trailer.count()
    }

    /// Size of the pack, in bytes.
    pub(crate) fn pack_bytes(&self) -> u64 {
        self.size
    }

    /// Its entries.
    ///
    /// # Errors
    ///
    /// None: it was loaded as a whole.
    pub(crate) fn get(&self) -> Result<PackIndex<'_>> {
        PackIndex::new(&self.bytes, &self.trailer).map_err(errno)
    }
}
