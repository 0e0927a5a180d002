// SPDX-License-Identifier: GPL-2.0

//! What the metadata of a mounted image are read by.

use super::blob::Metadata;
use crate::{
    content::Content,
    report::{logged, Failure, Purpose},
};
use kernel::prelude::*;
use vfs::PrivateCache;

/// The metadata of a mounted image, and what they are read by.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    /// Where they are.
    pub(crate) metadata: &'a Metadata,
    /// Their blocks, among other chunks.
    pub(crate) content: &'a Content,
    /// The blocks that were read.
    pub(crate) cache: &'a PrivateCache,
}

impl Access<'_> {
    /// Whether the metadata is in blocks, and these are loose.
    pub(crate) fn is_loose(&self) -> bool {
        self.metadata.is_in_blocks() && !self.content.chunks().has_packs()
    }

    /// From a failure of inode `ino` to its errno, after the log was told what is not sound.
    pub(crate) fn in_inode<F: Into<Failure>>(
        &self,
        ino: u64,
    ) -> impl FnOnce(F) -> Error + use<'_, F> {
        logged(self.content.chunks().faults(), Purpose::Inode(ino))
    }
}
