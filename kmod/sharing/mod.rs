// SPDX-License-Identifier: GPL-2.0

//! What mounted images have in common: which files and chunks are the same, and the page caches
//! of chunks.

use crate::content::Locked;
use cache::ChunkCaches;
use fingerprint::Sharers;
use kernel::sync::Arc;
use vfs::SharedCaches;

mod cache;
mod domain;
mod filesystems;
mod fingerprint;

pub(crate) use cache::ChunkCache;
pub(crate) use domain::DomainId;
pub(crate) use filesystems::{FilesystemNumber, Filesystems};
pub(crate) use fingerprint::OfFile;

/// What a mounted image shares with others.
pub(crate) struct Sharing {
    sharers: Sharers,
    caches: ChunkCaches,
}

impl Sharing {
    /// That of an image on `filesystem`, in `domain` or in none.
    pub(crate) fn new(filesystem: FilesystemNumber, domain: Option<DomainId>) -> Self {
        Self {
            sharers: Sharers::new(filesystem, domain),
            caches: ChunkCaches::default(),
        }
    }

    /// Says what a file has in it, in an image of `version`: it has no extents yet.
    pub(crate) fn of_file(&self, version: u64) -> OfFile<'_> {
        OfFile::new(&self.sharers, version)
    }

    /// The page cache of the chunk with this number, stored compressed or not, if it has one.
    pub(crate) fn cache(&self, number: Option<u32>, compressed: bool) -> Option<&ChunkCache> {
        self.caches.get(number?, compressed)
    }

    /// The page cache of `locked`, one of `caches` if it had none. None if the chunk is not in a
    /// pack, too many have one, or there is no memory.
    pub(crate) fn make_cache(
        &self,
        locked: &Locked<'_>,
        caches: &Arc<SharedCaches>,
    ) -> Option<&ChunkCache> {
        self.caches.make(&self.sharers, locked, caches)
    }
}
