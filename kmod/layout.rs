// SPDX-License-Identifier: GPL-2.0

//! The blobs of an OCI layout, which are the files `blobs/sha256/<digest>`.

use crate::report::errno;
use kernel::prelude::*;
use puzzlefs_format::{self as format, Digest};
use vfs::{lower, sha256, Log};

/// Why a layout is refused: where its files are, be it through an overlayfs.
pub(crate) const NESTED: &str =
    "lies on a PuzzleFS, or on what could (an EROFS over a file: mount that by a loop device)";

/// Bytes of a blob that tell what it is.
const HEAD_BYTES: usize = 4;

/// The blobs of a layout.
pub(crate) struct Blobs {
    /// The directory `blobs/sha256`.
    directory: lower::Directory,
    /// Those of the one who mounted: readers need no access to the layout.
    credentials: lower::Credentials,
}

impl Blobs {
    /// The blobs in `directory`, read with `credentials`.
    pub(crate) fn new(directory: lower::Directory, credentials: lower::Credentials) -> Self {
        Self {
            directory,
            credentials,
        }
    }

    /// Opens a blob, whose bytes are not verified.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none, `EINVAL` when it is not a regular file, `ELOOP` when it lies
    /// where none may, and what opening says.
    pub(crate) fn open(&self, digest: &Digest) -> Result<lower::LowerFile> {
        let mut name = [0; Digest::HEX_BYTES + 1];
        if let Some((_, hex)) = name.split_last_mut() {
            hex.copy_from_slice(&digest.to_hex());
        }
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| EINVAL)?;
        self.directory.open(name, &self.credentials)
    }

    /// As [`Blobs::open`], for a mount: every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none, and those of [`Blobs::open`].
    pub(crate) fn open_logged(&self, digest: &Digest, log: &Log<'_>) -> Result<lower::LowerFile> {
        self.open(digest).map_err(|error| match error {
            ENOENT => explain(
                log,
                digest,
                ENODATA,
                "there is no such blob in the OCI layout",
            ),
            EINVAL => explain(log, digest, EINVAL, "not a regular file"),
            ELOOP => explain(log, digest, ELOOP, NESTED),
            _ => explain(log, digest, error, "cannot be opened"),
        })
    }

    /// Loads a whole blob and verifies it. `limit` tells from the first bytes, up to
    /// [`HEAD_BYTES`], how many it may have. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none, `EFBIG` when it is bigger, `EBADMSG` when its bytes
    /// are not those that its name says, `EINTR` when the task was killed, what reading says, and
    /// those of `limit`.
    pub(crate) fn load(
        &self,
        digest: &Digest,
        limit: impl FnOnce(&[u8]) -> Result<usize, format::Error>,
        log: &Log<'_>,
    ) -> Result<KVVec<u8>> {
        let unreadable = |error| explain(log, digest, error, "cannot be read");
        let file = self.open_logged(digest, log)?;
        let mut head = [0; HEAD_BYTES];
        let len = usize::try_from(file.size()).unwrap_or(usize::MAX);
        let head = head.get_mut(..len.min(HEAD_BYTES)).ok_or(EINVAL)?;
        file.read_exact(head, 0).map_err(unreadable)?;
        // First: whoever reads and hashes a blob of gigabytes should not find out then that it
        // cannot be.
        let limit = limit(head).map_err(|error| {
            log.error(format_args!("blob sha256:{digest}: {error}"));
            errno(error)
        })?;
        // The allocator refuses, with a warning, what an `int` cannot hold.
        if len > limit || i32::try_from(len).is_err() {
            return Err(explain(log, digest, EFBIG, "too big for metadata"));
        }
        let mut bytes = KVVec::<u8>::zeroed(len, GFP_KERNEL_ACCOUNT)?;
        file.read_exact(&mut bytes, 0).map_err(unreadable)?;
        if sha256::digest(&bytes)? != *digest.as_bytes() {
            let what = "its bytes are not those of that digest";
            return Err(explain(log, digest, EBADMSG, what));
        }
        Ok(bytes)
    }
}

/// Logs what is wrong with a blob, and returns `error`.
pub(crate) fn explain(log: &Log<'_>, digest: &Digest, error: Error, what: &str) -> Error {
    log.error(format_args!("blob sha256:{digest}: {what}"));
    error
}
