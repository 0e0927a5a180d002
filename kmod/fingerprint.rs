// SPDX-License-Identifier: GPL-2.0

//! What shares its page cache with what: files of the same content
//! ([`vfs::Inode::share_page_cache`]), by the digests of their chunks, and chunks of many small
//! files ([`crate::shared`]), in images that may share it.
//!
//! No byte gets into a page cache unverified, so it does not matter whose chunk it came from:
//! an image cannot make another's file read wrong. But it could claim, in its metadata and in
//! the index of a pack, to have chunks that it has not, and read what another image left in the
//! page cache of a file of these. Nobody looks for the chunks then. So files and chunks share
//! their page cache only
//!
//! - if each of the chunks is in the same place of the same file of the layout, on a filesystem
//!   that was there all the time ([`Filesystems`]): the image can
//!   read there itself what it gets. Images of one layout have most of what they have in common
//!   so, and all of it once it was repacked;
//! - or if whoever mounts them says, by `domain_id=`, that the images of that domain may read
//!   what they know the digests of. These share with no image outside of it.

use crate::{
    faults::Purpose,
    image::Image,
    options::DomainId,
    request::Request,
    run::Part,
    store::Stored,
    table::{Lent, Table},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use puzzlefs_format::Encoding;
use vfs::{lower, sha256::Hasher, Fingerprint, Inode};

/// Numbers of the filesystems that layouts are on. What stands in a page cache outlives the mount
/// that it was read by, and then the filesystem of that layout may go; the next one can have its
/// device number and, in its files, all other numbers of it. These never come back.
pub(crate) struct Filesystems {
    numbers: Arc<Table<usize, u64>>,
    last: Atomic<u64>,
}

/// The number of a filesystem, its own as long as any of these is there.
pub(crate) struct FilesystemNumber {
    // Before the path, which keeps the filesystem that it is the number of.
    number: Lent<usize, u64>,
    _path: lower::Path,
}

impl FilesystemNumber {
    /// The number.
    pub(crate) fn get(&self) -> u64 {
        *self.number
    }
}

impl Filesystems {
    /// None yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            numbers: Table::new()?,
            last: Atomic::new(0),
        })
    }

    /// The number of the filesystem that `path` is on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn number(&self, path: &lower::Path) -> Result<FilesystemNumber> {
        let next = || Ok(self.last.fetch_add(1, Relaxed));
        Ok(FilesystemNumber {
            number: self.numbers.get(path.filesystem(), next)?,
            _path: path.clone(),
        })
    }
}

/// Says what a file has in it, which is told its extents in their order. Two files with the same
/// result have the same bytes, and may share their page cache.
pub(crate) struct OfFile<'a> {
    inode: &'a Inode<Image>,
    hasher: Hasher,
}

impl<'a> OfFile<'a> {
    /// For the file of `inode`, of no extents yet.
    pub(crate) fn new(inode: &'a Inode<Image>) -> Self {
        let sb = inode.super_block();
        let hasher = begin(sb.identity(), sb.data().store().version());
        Self { inode, hasher }
    }

    /// Takes the next extent, which ends at `end`; no part is a hole.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is one of another image.
    pub(crate) fn add(&mut self, end: u64, part: Option<&Part>) -> Result {
        let sb = self.inode.super_block();
        self.hasher.update(&end.to_le_bytes());
        let Some(part) = part else {
            self.hasher.update(b"hole");
            return Ok(());
        };
        self.hasher.update(&part.offset.to_le_bytes());
        let purpose = Purpose::Inode(self.inode.ino());
        let chunk = sb.data().store().stored(&part.source, purpose)?;
        add(&mut self.hasher, &chunk, part.compressed, sb.identity());
        Ok(())
    }

    /// The result.
    pub(crate) fn finish(self) -> Fingerprint {
        self.hasher.finish()
    }
}

/// The same of the content of `chunk`, stored compressed or not, in the image of `identity`.
pub(crate) fn of_chunk(chunk: &Stored<'_>, compressed: bool, identity: &Request) -> Fingerprint {
    let mut hasher = begin(identity, chunk.version());
    add(&mut hasher, chunk, compressed, identity);
    hasher.finish()
}

/// Who may share.
fn begin(identity: &Request, version: u64) -> Hasher {
    let mut hasher = Hasher::default();
    let domain = identity.domain_id();
    let name = domain.map_or(&[][..], DomainId::as_bytes);
    // What cannot be read in an image of its version must not be there by another one's.
    let may_be_lz4 = Encoding::may_be_lz4(version);
    hasher.update(&[domain.is_some().into(), may_be_lz4.into()]);
    hasher.update(&name.len().to_le_bytes());
    hasher.update(name);
    hasher
}

fn add(hasher: &mut Hasher, chunk: &Stored<'_>, compressed: bool, identity: &Request) {
    hasher.update(if compressed { b"comp" } else { b"raw." });
    hasher.update(chunk.digest().as_bytes());
    if identity.domain_id().is_none() {
        for number in chunk.place() {
            hasher.update(&number.to_le_bytes());
        }
    }
}
