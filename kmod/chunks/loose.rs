// SPDX-License-Identifier: GPL-2.0

//! Loose chunks: blobs of one chunk. Those that open files need are open, each once.

use crate::{
    layout::Blobs,
    report::Reported,
    tables::{Lent, Table},
};
use kernel::prelude::*;
use puzzlefs_format::Digest;
use vfs::lower::LowerFile;

/// An open blob of one chunk.
pub(crate) struct LooseChunk {
    pub(crate) file: LowerFile,
    pub(crate) reported: Reported,
}

/// The loose chunks that are open.
pub(crate) type LooseChunks = Table<Digest, LooseChunk>;

/// A loose chunk that is open at least until this is dropped.
pub(crate) type OpenChunk = Lent<Digest, LooseChunk>;

/// Opens the blob with this digest.
///
/// # Errors
///
/// `ENOENT` when there is none, `EINVAL` when it is not a regular file, and what opening says.
pub(crate) fn open(blobs: &Blobs, digest: &Digest) -> Result<LooseChunk> {
    Ok(LooseChunk {
        file: blobs.open(digest)?,
        reported: Reported::default(),
    })
}
