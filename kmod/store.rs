// SPDX-License-Identifier: GPL-2.0

//! The blobs of an OCI layout: `blobs/sha256/<digest>`.

use crate::NAME;
use core::ops::Deref;
use kernel::{
    cred::Credential,
    fmt, new_mutex,
    prelude::*,
    rbtree::{Entry, RBTree, RBTreeNodeReservation},
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use puzzlefs_format::Digest;
use vfs::{lower, sha256, Log};

/// An open blob that holds one chunk.
pub(crate) struct Blob {
    digest: Digest,
    file: lower::LowerFile,
    /// Whether the log has this blob's fault already.
    reported: Atomic<u32>,
}

impl Blob {
    /// The digest of its bytes.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size in bytes, now.
    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    /// Reads the whole blob into `buffer`, which is of its size, and verifies it.
    ///
    /// # Errors
    ///
    /// `EIO` when its bytes are not those that its name says, and what reading says.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result {
        self.file
            .read_exact(buffer, 0)
            .inspect_err(|error| match *error {
                // Not the blob's fault: a later one must still be heard of.
                EINTR | ERESTARTSYS | ENOMEM => {}
                _ => self.report(format_args!("cannot be read: {error:?}")),
            })?;
        if sha256::digest(buffer) != *self.digest.as_bytes() {
            self.report(format_args!("its bytes are not those of that digest"));
            return Err(EIO);
        }
        Ok(())
    }

    /// Logs a fault of this blob, once.
    pub(crate) fn report(&self, what: fmt::Arguments<'_>) {
        if self.reported.xchg(1, Relaxed) == 0 {
            vfs::warn(NAME, format_args!("chunk sha256:{}: {what}", self.digest));
        }
    }
}

/// A blob in the table of open ones, with its number of users.
struct Shared {
    blob: Arc<Blob>,
    users: usize,
}

/// The blobs of a layout. Those that open files need are open, each once.
#[pin_data]
pub(crate) struct Store {
    /// The directory `blobs/sha256`.
    directory: lower::Path,
    /// Those of the one who mounted: readers need no access to the layout.
    credentials: ARef<Credential>,
    #[pin]
    open: Mutex<RBTree<Digest, Shared>>,
}

impl Store {
    /// The store in `directory`, read with the current task's credentials.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(directory: lower::Path) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                directory,
                credentials: lower::current_credentials(),
                open <- new_mutex!(RBTree::new()),
            }),
            GFP_KERNEL,
        )
    }

    fn open_file(&self, digest: &Digest) -> Result<lower::LowerFile> {
        let mut name = [0; Digest::HEX_BYTES + 1];
        if let Some((_, hex)) = name.split_last_mut() {
            hex.copy_from_slice(&digest.to_hex());
        }
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| EINVAL)?;
        self.directory.open(name, &self.credentials)
    }

    /// Loads a whole blob of at most `limit` bytes and verifies it. Every error is
    /// explained in `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none, `EFBIG` when it is bigger, `EBADMSG` when its bytes
    /// are not those that its name says, and what reading says.
    pub(crate) fn load(&self, digest: &Digest, limit: usize, log: &Log<'_>) -> Result<KVVec<u8>> {
        let explain = |error: Error, what: &str| {
            log.error(format_args!("blob sha256:{digest}: {what}"));
            error
        };
        let file = self.open_file(digest).map_err(|error| match error {
            ENOENT => explain(ENODATA, "there is no such blob in the OCI layout"),
            EINVAL => explain(EINVAL, "not a regular file"),
            _ => explain(error, "cannot be opened"),
        })?;
        // The allocator refuses, with a warning, what an `int` cannot hold.
        let size = usize::try_from(file.size())
            .ok()
            .filter(|size| *size <= limit && i32::try_from(*size).is_ok())
            .ok_or_else(|| explain(EFBIG, "too big for metadata"))?;
        let mut bytes = KVVec::<u8>::zeroed(size, GFP_KERNEL_ACCOUNT)?;
        file.read_exact(&mut bytes, 0)
            .map_err(|error| explain(error, "cannot be read"))?;
        if sha256::digest(&bytes) != *digest.as_bytes() {
            return Err(explain(EBADMSG, "its bytes are not those of that digest"));
        }
        Ok(bytes)
    }

    /// The blob with this digest, opened if it is not.
    ///
    /// # Errors
    ///
    /// `EIO` when there is none, and what opening says.
    pub(crate) fn acquire(self: &Arc<Self>, digest: &Digest) -> Result<OpenBlob> {
        let lend = |shared: &mut Shared| {
            shared.users = shared.users.saturating_add(1);
            OpenBlob {
                store: self.clone(),
                blob: shared.blob.clone(),
            }
        };
        if let Some(shared) = self.open.lock().get_mut(digest) {
            return Ok(lend(shared));
        }
        let file = self.open_file(digest).map_err(|error| {
            vfs::warn(
                NAME,
                format_args!("chunk sha256:{digest} cannot be opened: {error:?}"),
            );
            match error {
                ENOENT | EINVAL => EIO,
                _ => error,
            }
        })?;
        let blob = Blob {
            digest: *digest,
            file,
            reported: Atomic::new(0),
        };
        let mut ours = Shared {
            blob: Arc::new(blob, GFP_KERNEL_ACCOUNT)?,
            users: 0,
        };
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let mut open = self.open.lock();
        let blob = match open.entry(*digest) {
            // Someone else has opened it meanwhile. Ours is closed again, without the lock.
            Entry::Occupied(mut entry) => lend(entry.get_mut()),
            Entry::Vacant(entry) => {
                let blob = lend(&mut ours);
                entry.insert(ours, node);
                return Ok(blob);
            }
        };
        drop(open);
        Ok(blob)
    }
}

/// A blob that is open at least until this is dropped.
pub(crate) struct OpenBlob {
    store: Arc<Store>,
    blob: Arc<Blob>,
}

impl Deref for OpenBlob {
    type Target = Blob;

    fn deref(&self) -> &Blob {
        &self.blob
    }
}

impl Drop for OpenBlob {
    fn drop(&mut self) {
        let mut open = self.store.open.lock();
        let Some(shared) = open.get_mut(&self.blob.digest) else {
            return;
        };
        shared.users = shared.users.saturating_sub(1);
        if shared.users == 0 {
            let node = open.remove_node(&self.blob.digest);
            // The file is closed without the lock.
            drop(open);
            drop(node);
        }
    }
}
