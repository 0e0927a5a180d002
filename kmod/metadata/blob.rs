// SPDX-License-Identifier: GPL-2.0

//! The Rootfs blob, which has the metadata of an image or says where they are.

use crate::{layout::Blobs, report::errno};
use kernel::{prelude::*, sync::SetOnce};
use puzzlefs_format::{self as format, limits, Blocks, Digest, RootfsBlob, RootfsHead};
use vfs::Log;

/// The metadata of an image.
pub(crate) struct Metadata {
    /// The Rootfs blob that has them, or says where they are.
    digest: Digest,
    /// The `manifestVersion`.
    version: u64,
    pub(super) form: Form,
    /// What was found when they were first looked at.
    pub(super) head: SetOnce<RootfsHead>,
}

pub(super) enum Form {
    /// The Rootfs message.
    Whole(KVVec<u8>),
    /// The blob that says where its blocks are, and its size.
    Blocks(KVVec<u8>, usize),
}

impl Metadata {
    /// Loads the Rootfs blob `digest` and verifies it. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// As [`Blobs::load`]; `EUCLEAN` when it is not sound, `EOPNOTSUPP` for a version that
    /// is not known.
    pub(crate) fn load(blobs: &Blobs, digest: &Digest, log: &Log<'_>) -> Result<Self> {
        let bytes = blobs.load(digest, limits::MAX_ROOTFS_BYTES, log)?;
        Self::new(digest, bytes, log)
    }

    /// The same of a blob that is loaded already.
    pub(crate) fn new(digest: &Digest, bytes: KVVec<u8>, log: &Log<'_>) -> Result<Self> {
        let (version, size) = match RootfsBlob::parse(&bytes) {
            Ok(RootfsBlob::Whole(rootfs)) => (rootfs.version(), None),
            Ok(RootfsBlob::Blocks(blocks)) => (blocks.version(), Some(blocks.total())),
            Err(error) => {
                log.error(format_args!("blob sha256:{digest}: {error}"));
                return Err(errno(error));
            }
        };
        let form = match size {
            None => Form::Whole(bytes),
            Some(size) => Form::Blocks(bytes, usize::try_from(size).map_err(|_| EFBIG)?),
        };
        Ok(Self {
            digest: *digest,
            version,
            form,
            head: SetOnce::new(),
        })
    }

    /// The `manifestVersion`.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether it is in blocks.
    pub(crate) fn is_in_blocks(&self) -> bool {
        matches!(self.form, Form::Blocks(..))
    }

    /// The digest of the Rootfs blob.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The root directory, if the blob says what it is and leaves the rest to blocks.
    ///
    /// # Errors
    ///
    /// What is not sound in it.
    pub(crate) fn root(&self) -> Result<Option<format::Inode<'_>>, format::Error> {
        match &self.form {
            Form::Whole(_) => Ok(None),
            Form::Blocks(bytes, _) => blocks(bytes)?.root(),
        }
    }
}

/// The blocks that the blob in `bytes` lists.
pub(super) fn blocks(bytes: &[u8]) -> Result<Blocks<'_>, format::Error> {
    match RootfsBlob::parse(bytes)? {
        RootfsBlob::Blocks(blocks) => Ok(blocks),
        RootfsBlob::Whole(_) => Err(format::Error::BadBlocks),
    }
}
