// SPDX-License-Identifier: GPL-2.0

//! Open regular files: where their data is, and the blobs that it is in.

use crate::{
    chunks::Source,
    metadata::{ChunkExtent, ExtentMap},
};
use kernel::sync::Arc;

/// Files of more extents are not kept when they are closed: about a page of memory.
const MAX_KEPT_EXTENTS: usize = 64;

/// An open regular file, shared by all who have it open at the same time, or kept with its
/// inode. Every blob it needs is open, so that a page fault never has to look one up.
pub(crate) struct OpenFile {
    extents: ExtentMap,
}

impl OpenFile {
    /// A file with these extents.
    pub(super) fn new(extents: ExtentMap) -> Self {
        Self { extents }
    }

    /// Its extents.
    pub(crate) fn extents(&self) -> &ExtentMap {
        &self.extents
    }

    /// Whether it is kept as long as its inode: it takes little, and keeps nothing open.
    /// What is kept is dropped in an RCU callback, where a loose chunk could not be closed.
    pub(super) fn is_kept(&self) -> bool {
        let Some(run) = self.extents.all() else {
            return false;
        };
        let is_loose = |(_, extent): (u64, Option<&ChunkExtent>)| {
            matches!(extent.map(|extent| &extent.source), Some(Source::Loose(_)))
        };
        run.len() <= MAX_KEPT_EXTENTS && !run.extents().any(is_loose)
    }
}

/// What an inode knows of its open files, if they are not kept.
#[derive(Default)]
pub(crate) struct Opens {
    users: usize,
    file: Option<Arc<OpenFile>>,
}

impl Opens {
    /// The file for one more user, if somebody has it open.
    pub(super) fn share(&mut self) -> Option<Arc<OpenFile>> {
        let file = self.file.clone()?;
        self.users = self.users.saturating_add(1);
        Some(file)
    }

    /// The same for the first user, who has opened `file`.
    pub(super) fn begin(&mut self, file: Arc<OpenFile>) -> Arc<OpenFile> {
        self.users = self.users.saturating_add(1);
        self.file.insert(file).clone()
    }

    /// One user less. Gives the file to the last one.
    pub(super) fn end(&mut self) -> Option<Arc<OpenFile>> {
        self.users = self.users.saturating_sub(1);
        match self.users {
            0 => self.file.take(),
            _ => None,
        }
    }
}
