// SPDX-License-Identifier: GPL-2.0

//! Loose chunks: blobs of one chunk. Those that open files need are open, each once.

use crate::{blobs::Blobs, faults::Reported};
use core::ops::Deref;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{Entry, RBTree, RBTreeNodeReservation},
    sync::{Arc, Mutex},
};
use puzzlefs_format::Digest;
use vfs::lower::LowerFile;

/// An open blob of one chunk.
pub(crate) struct LooseChunk {
    pub(crate) digest: Digest,
    pub(crate) file: LowerFile,
    pub(crate) reported: Reported,
}

/// A chunk in the table of open ones, with its number of users.
struct Shared {
    chunk: Arc<LooseChunk>,
    users: usize,
}

/// The loose chunks that are open.
#[pin_data]
pub(crate) struct LooseChunks {
    #[pin]
    open: Mutex<RBTree<Digest, Shared>>,
}

impl LooseChunks {
    /// A table without any.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                open <- new_mutex!(RBTree::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// The chunk with this digest, opened if it is not.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none, `EINVAL` when it is not a regular file, and what opening
    /// says.
    pub(crate) fn acquire(self: &Arc<Self>, blobs: &Blobs, digest: &Digest) -> Result<OpenChunk> {
        let lend = |shared: &mut Shared| {
            shared.users = shared.users.saturating_add(1);
            OpenChunk {
                table: self.clone(),
                chunk: shared.chunk.clone(),
            }
        };
        if let Some(shared) = self.open.lock().get_mut(digest) {
            return Ok(lend(shared));
        }
        let file = blobs.open(digest)?;
        let chunk = LooseChunk {
            digest: *digest,
            file,
            reported: Reported::default(),
        };
        let mut ours = Shared {
            chunk: Arc::new(chunk, GFP_KERNEL_ACCOUNT)?,
            users: 0,
        };
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let mut open = self.open.lock();
        let chunk = match open.entry(*digest) {
            // Someone else has opened it meanwhile. Ours is closed again, without the lock.
            Entry::Occupied(mut entry) => lend(entry.get_mut()),
            Entry::Vacant(entry) => {
                let chunk = lend(&mut ours);
                entry.insert(ours, node);
                return Ok(chunk);
            }
        };
        drop(open);
        Ok(chunk)
    }

    /// How many are open.
    pub(crate) fn open_chunks(&self) -> usize {
        self.open.lock().keys().count()
    }
}

/// A loose chunk that is open at least until this is dropped.
pub(crate) struct OpenChunk {
    table: Arc<LooseChunks>,
    chunk: Arc<LooseChunk>,
}

impl Deref for OpenChunk {
    type Target = LooseChunk;

    fn deref(&self) -> &LooseChunk {
        &self.chunk
    }
}

impl Drop for OpenChunk {
    fn drop(&mut self) {
        let mut open = self.table.open.lock();
        let Some(shared) = open.get_mut(&self.chunk.digest) else {
            return;
        };
        shared.users = shared.users.saturating_sub(1);
        if shared.users == 0 {
            let node = open.remove_node(&self.chunk.digest);
            // The file is closed without the lock.
            drop(open);
            drop(node);
        }
    }
}
