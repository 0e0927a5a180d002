// SPDX-License-Identifier: GPL-2.0

//! The blobs of an OCI layout: the files `blobs/sha256/<digest>`.

use kernel::prelude::*;
use puzzlefs_format::Digest;
use vfs::{lower, sha256, Log};

/// Why a layout is refused: where its files are, be it through an overlayfs.
pub(crate) const NESTED: &str =
    "lies on a PuzzleFS, or on what could (an EROFS over a file: mount that by a loop device)";

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

    /// Loads a whole blob of at most `limit` bytes and verifies it. Every error is
    /// explained in `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none, `EFBIG` when it is bigger, `EBADMSG` when its bytes
    /// are not those that its name says, and what reading says.
    pub(crate) fn load(&self, digest: &Digest, limit: usize, log: &Log<'_>) -> Result<KVVec<u8>> {
        let file = self.open_logged(digest, log)?;
        // The allocator refuses, with a warning, what an `int` cannot hold.
        let size = usize::try_from(file.size())
            .ok()
            .filter(|size| *size <= limit && i32::try_from(*size).is_ok())
            .ok_or_else(|| explain(log, digest, EFBIG, "too big for metadata"))?;
        let mut bytes = KVVec::<u8>::zeroed(size, GFP_KERNEL_ACCOUNT)?;
        file.read_exact(&mut bytes, 0)
            .map_err(|error| explain(log, digest, error, "cannot be read"))?;
        if sha256::digest(&bytes) != *digest.as_bytes() {
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
