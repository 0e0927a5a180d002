// SPDX-License-Identifier: GPL-2.0

//! The blobs of an OCI layout, which are the files `blobs/sha256/<digest>`.

use crate::report::errno;
use kernel::prelude::*;
use puzzlefs_format::{self as format, Digest};
use vfs::{lower, sha256, FsVerity, Log};

/// Why a layout is refused: where its files are, be it through an overlayfs.
pub(crate) const NESTED: &str =
    "lies on a PuzzleFS, or on what could (an EROFS over a file: mount that by a loop device)";

/// Bytes of a blob that tell what it is.
const HEAD_BYTES: usize = 4;

/// The blobs of a layout.
pub(crate) struct Blobs {
    /// The directory `blobs/sha256`.
    directory: lower::LowerDirectory,
    /// Those of the one who mounted: readers need no access to the layout.
    credentials: lower::Credentials,
}

impl Blobs {
    /// The blobs in `directory`, read with `credentials`.
    pub(crate) fn new(directory: lower::LowerDirectory, credentials: lower::Credentials) -> Self {
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

    /// Loads a whole blob of at most `limit` bytes, and verifies it. Every error is explained in
    /// `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when there is none, `EFBIG` when it is bigger, `EBADMSG` when its bytes
    /// are not those that its name says, `EINTR` when the task was killed, and what reading says.
    pub(crate) fn load(&self, digest: &Digest, limit: usize, log: &Log<'_>) -> Result<KVVec<u8>> {
        let file = self.open_logged(digest, log)?;
        load(&file, digest, limit, log)
    }

    /// The same of a blob that may be of any kind. `limit` tells from its first bytes how many
    /// it may have, and is asked before more is read if they are more than `any`.
    ///
    /// # Errors
    ///
    /// As of [`Blobs::load`], and those of `limit`.
    pub(crate) fn load_any(
        &self,
        digest: &Digest,
        any: usize,
        limit: impl FnOnce(&[u8]) -> Result<usize, format::Error>,
        log: &Log<'_>,
    ) -> Result<KVVec<u8>> {
        let file = self.open_logged(digest, log)?;
        let mut most = any;
        if file.size() > any as u64 {
            let mut head = [0; HEAD_BYTES];
            file.read_exact(&mut head, 0)
                .map_err(|error| explain(log, digest, error, "cannot be read"))?;
            most = limit(&head).map_err(|error| {
                log.error(format_args!("blob sha256:{digest}: {error}"));
                errno(error)
            })?;
        }
        load(&file, digest, most, log)
    }
}

fn load(
    file: &lower::LowerFile,
    digest: &Digest,
    limit: usize,
    log: &Log<'_>,
) -> Result<KVVec<u8>> {
    // The allocator refuses, with a warning, what an `int` cannot hold.
    let len = usize::try_from(file.size()).ok();
    let len = len.filter(|len| *len <= limit && i32::try_from(*len).is_ok());
    let len = len.ok_or_else(|| explain(log, digest, EFBIG, "too big for metadata"))?;
    let mut bytes = KVVec::<u8>::zeroed(len, GFP_KERNEL_ACCOUNT)?;
    file.read_exact(&mut bytes, 0)
        .map_err(|error| explain(log, digest, error, "cannot be read"))?;
    if sha256::digest(&bytes)? != *digest.as_bytes() {
        let what = "its bytes are not those of that digest";
        return Err(explain(log, digest, EBADMSG, what));
    }
    Ok(bytes)
}

/// Checks that `file`, the blob `digest`, has fs-verity with the digest `expected`. Then its bytes
/// cannot be changed, and the filesystem below checks what it reads of them. Returns that digest.
/// Every error is explained in `log`.
///
/// # Errors
///
/// `ENOKEY` when nobody says which digest it ought to have, `EOPNOTSUPP` when it has no fs-verity
/// or the kernel knows of none, `EKEYREJECTED` when it has another digest.
pub(crate) fn require_fs_verity(
    file: &lower::LowerFile,
    digest: &Digest,
    expected: Option<&Digest>,
    log: &Log<'_>,
) -> Result<Digest> {
    let refuse = |error, what| Err(explain(log, digest, error, what));
    let Some(expected) = expected else {
        let what = "the manifest says no fs-verity digest of it: repack the image";
        return refuse(ENOKEY, what);
    };
    match file.fs_verity() {
        FsVerity::Sha256(found) if found == *expected.as_bytes() => Ok(*expected),
        FsVerity::Sha256(_) | FsVerity::Other => {
            let what = "it has another fs-verity digest than the manifest says";
            refuse(EKEYREJECTED, what)
        }
        FsVerity::Off => refuse(EOPNOTSUPP, "fs-verity is not enabled for it"),
        FsVerity::Unknown => refuse(
            EOPNOTSUPP,
            "this kernel has no fs-verity (CONFIG_FS_VERITY)",
        ),
    }
}

/// Logs what is wrong with a blob, and returns `error`.
pub(crate) fn explain(log: &Log<'_>, digest: &Digest, error: Error, what: &str) -> Error {
    log.error(format_args!("blob sha256:{digest}: {what}"));
    error
}
