// SPDX-License-Identifier: GPL-2.0

//! What shares its page cache with what: files of the same content
//! ([`vfs::Inode::share_page_cache`]), by the digests of their chunks, and chunks of many small
//! files ([`super::cache`]), in images that may share it.
//!
//! No byte gets into a page cache unverified, so it does not matter whose chunk it came from:
//! an image cannot make another's file read wrong. But it could claim, in its metadata and in
//! the index of a pack, to have chunks that it has not, and read what another image left in the
//! page cache of a file of these. Nobody looks for the chunks then. So files and chunks share
//! their page cache only
//!
//! - if each of the chunks is in the same place of the same file of the layout, on a filesystem
//!   that was there all the time ([`super::filesystems`]): the image can
//!   read there itself what it gets. Images of one layout have most of what they have in common
//!   so, and all of it once it was repacked;
//! - or if whoever mounts them says, by `domain_id=`, that the images of that domain may read
//!   what they know the digests of. These share with no image outside of it.

use super::{domain::DomainId, filesystems::FilesystemNumber};
use crate::content::Chunk;
use puzzlefs_format::Encoding;
use vfs::{sha256::Hasher, Fingerprint};

/// Who an image may share with.
pub(crate) struct Scope {
    /// That of the layout.
    filesystem: FilesystemNumber,
    /// The domain, if it is in one.
    domain: Option<DomainId>,
}

impl Scope {
    /// That of an image on `filesystem`, in `domain` or in none.
    pub(super) fn new(filesystem: FilesystemNumber, domain: Option<DomainId>) -> Self {
        Self { filesystem, domain }
    }

    /// Begins the fingerprint of what is in an image of `version`.
    fn begin(&self, version: u64) -> Hasher {
        let mut hasher = Hasher::default();
        let name = self.domain.as_ref().map_or(&[][..], DomainId::as_bytes);
        // What cannot be read in an image of its version must not be there by another one's.
        let may_be_lz4 = Encoding::may_be_lz4(version);
        hasher.update(&[self.domain.is_some().into(), may_be_lz4.into()]);
        hasher.update(&name.len().to_le_bytes());
        hasher.update(name);
        hasher
    }

    fn add(&self, hasher: &mut Hasher, chunk: &Chunk<'_>) {
        let form = match chunk.is_compressed() {
            true => b"comp",
            false => b"raw.",
        };
        hasher.update(form);
        hasher.update(chunk.stored().digest().as_bytes());
        if self.domain.is_none() {
            hasher.update(&self.filesystem.get().to_le_bytes());
            for number in chunk.stored().place() {
                hasher.update(&number.to_le_bytes());
            }
        }
    }

    /// Says what the content of `chunk` is.
    pub(super) fn of_chunk(&self, chunk: &Chunk<'_>) -> Fingerprint {
        let mut hasher = self.begin(chunk.stored().version());
        self.add(&mut hasher, chunk);
        hasher.finish()
    }
}

/// Says what a file has in it, which is told its extents in their order. Two files with the same
/// result have the same bytes, and may share their page cache.
pub(crate) struct OfFile<'a> {
    scope: &'a Scope,
    hasher: Hasher,
}

impl<'a> OfFile<'a> {
    /// For a file of an image of `version`, of no extents yet.
    pub(super) fn new(scope: &'a Scope, version: u64) -> Self {
        let hasher = scope.begin(version);
        Self { scope, hasher }
    }

    /// Takes the next extent, which ends at `end`: a chunk, and where in its content the extent
    /// begins. None is a hole.
    pub(crate) fn add(&mut self, end: u64, extent: Option<(&Chunk<'_>, u64)>) {
        self.hasher.update(&end.to_le_bytes());
        match extent {
            Some((chunk, offset)) => {
                self.hasher.update(&offset.to_le_bytes());
                self.scope.add(&mut self.hasher, chunk);
            }
            None => self.hasher.update(b"hole"),
        }
    }

    /// The result.
    pub(crate) fn finish(self) -> Fingerprint {
        self.hasher.finish()
    }
}
