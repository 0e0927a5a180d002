// SPDX-License-Identifier: GPL-2.0

//! Open regular files: where their data is, and the blobs that it is in.

use crate::{
    error::errno,
    image::Image,
    store::{Blob, Store},
};
use kernel::{prelude::*, sync::Arc};
use puzzlefs_format::{Extents, Kind};
use vfs::Inode;

/// An extent of a file: a part of a chunk.
pub(crate) struct Part {
    /// The open blob that holds the chunk.
    pub(crate) blob: Arc<Blob>,
    /// Where in the decompressed chunk the extent begins, in bytes.
    pub(crate) offset: u64,
    /// Whether the chunk is stored as zstd frames.
    pub(crate) compressed: bool,
}

/// An open regular file, shared by all who have it open at the same time. Every blob it
/// needs is open, so that a page fault never has to look one up.
pub(crate) struct OpenFile {
    store: Arc<Store>,
    /// Where each extent ends.
    ends: KVVec<u64>,
    /// The extents; none for a hole.
    parts: KVVec<Option<Part>>,
}

impl OpenFile {
    fn new(store: &Arc<Store>, extents: &Extents<'_>, size: u64) -> Result<Arc<Self>> {
        let count = usize::try_from(extents.len()).map_err(|_| EFBIG)?;
        let mut ends = KVVec::from_elem(0, count, GFP_KERNEL_ACCOUNT)?;
        if extents.ends(&mut ends).map_err(errno)? != size {
            return Err(EUCLEAN);
        }
        // From here on dropping `this` releases what is in it.
        let mut this = Self {
            store: store.clone(),
            ends,
            parts: KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?,
        };
        for extent in extents.iter() {
            let chunk = extent.map_err(errno)?.chunk;
            let part = match chunk {
                Some(chunk) => Some(Part {
                    blob: store.acquire(&chunk.digest)?,
                    offset: chunk.offset,
                    compressed: chunk.compressed,
                }),
                None => None,
            };
            this.parts.push(part, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// Where each extent ends, for [`puzzlefs_format::locate`].
    pub(crate) fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// Extent `index`; none if it is a hole.
    pub(crate) fn part(&self, index: usize) -> Result<Option<&Part>> {
        Ok(self.parts.get(index).ok_or(EUCLEAN)?.as_ref())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        for part in self.parts.iter().flatten() {
            self.store.release(&part.blob);
        }
    }
}

/// What an inode knows of its open files.
#[derive(Default)]
pub(crate) struct Opens {
    users: usize,
    file: Option<Arc<OpenFile>>,
}

/// Opens a file, or shares it with those who have it open.
///
/// # Errors
///
/// `EIO` when a chunk is missing, `EUCLEAN` when the extents are not sound.
pub(crate) fn open(inode: &Inode<Image>) -> Result<Arc<OpenFile>> {
    let mut opens = inode.data().opens.lock();
    let file = match &opens.file {
        Some(file) => file.clone(),
        None => {
            let image = inode.super_block().data();
            let Kind::File(extents) = image.inode(inode.ino())?.kind().map_err(errno)? else {
                return Err(EUCLEAN);
            };
            let file = OpenFile::new(image.store(), &extents, inode.size())?;
            opens.file = Some(file.clone());
            file
        }
    };
    opens.users = opens.users.saturating_add(1);
    Ok(file)
}

/// Undoes one [`open`].
pub(crate) fn release(inode: &Inode<Image>, file: Arc<OpenFile>) {
    let mut opens = inode.data().opens.lock();
    opens.users = opens.users.saturating_sub(1);
    let last = if opens.users == 0 {
        opens.file.take()
    } else {
        None
    };
    // Blobs are closed without the lock.
    drop(opens);
    drop((file, last));
}
