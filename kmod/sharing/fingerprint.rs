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
//!
//! By `verify=fsverity` a chunk in a pack is not hashed, and what the pack's index says of its
//! digest is the word of whoever made the image. Were its digest its fingerprint, a lying index
//! could put any bytes under the digest of another image's chunk. So such a chunk goes by what was
//! verified: the fs-verity digest of its pack, its offset and its size there. That names its bytes
//! as surely, and whoever has the pack open has them. It never shares with a chunk that goes by its
//! digest.

use super::{domain::DomainId, filesystems::FilesystemNumber};
use crate::content::Chunk;
use puzzlefs_format::Encoding;
use vfs::{sha256::Hasher, Fingerprint};

/// Who an image may share with.
pub(crate) struct Sharers {
    /// That of the layout.
    filesystem: FilesystemNumber,
    /// The domain, if it is in one.
    domain: Option<DomainId>,
}

impl Sharers {
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

    /// Adds which chunk it is. The first four bytes tell how many follow, so that no two lists of
    /// chunks, and holes, are the same bytes.
    fn add(&self, hasher: &mut Hasher, chunk: &Chunk<'_>) {
        let (stored, compressed) = (chunk.stored(), chunk.is_compressed());
        match stored.vouched() {
            None => {
                hasher.update(if compressed { b"comp" } else { b"raw." });
                hasher.update(stored.digest().as_bytes());
            }
            Some(fs_verity) => {
                hasher.update(if compressed { b"vcom" } else { b"vraw" });
                hasher.update(fs_verity.as_bytes());
                for number in stored.range() {
                    hasher.update(&number.to_le_bytes());
                }
            }
        }
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
    sharers: &'a Sharers,
    hasher: Hasher,
}

impl<'a> OfFile<'a> {
    /// For a file of an image of `version`, of no extents yet.
    pub(super) fn new(sharers: &'a Sharers, version: u64) -> Self {
        let hasher = sharers.begin(version);
        Self { sharers, hasher }
    }

    /// Takes the next extent, which ends at `end`: a chunk, and where in its content the extent
    /// begins. None is a hole.
    pub(crate) fn add(&mut self, end: u64, extent: Option<(&Chunk<'_>, u64)>) {
        self.hasher.update(&end.to_le_bytes());
        match extent {
            Some((chunk, offset)) => {
                self.sharers.add(&mut self.hasher, chunk);
                self.hasher.update(&offset.to_le_bytes());
            }
            None => self.hasher.update(b"hole"),
        }
    }

    /// The result.
    pub(crate) fn finish(self) -> Fingerprint {
        self.hasher.finish()
    }
}
