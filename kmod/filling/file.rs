// SPDX-License-Identifier: GPL-2.0

//! A file that is read, with all that it takes.

use crate::{
    content::Content,
    metadata::{Access, ExtentMap, LentRun},
    report::Purpose,
    sharing::Sharing,
};
use kernel::{prelude::*, sync::Arc};
use vfs::SharedCaches;

/// A regular file that is read.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    /// The number of its inode.
    pub(crate) ino: u64,
    /// Its extents.
    pub(crate) extents: &'a ExtentMap,
    /// The image that it is in.
    pub(crate) access: Access<'a>,
    /// What that image shares with others.
    pub(crate) sharing: &'a Sharing,
    /// Where the page caches of chunks come from.
    pub(crate) caches: &'a Arc<SharedCaches>,
}

impl<'a> File<'a> {
    /// Where its chunks are.
    pub(super) fn content(&self) -> &'a Content {
        self.access.content
    }

    /// What its chunks are read for.
    pub(super) fn purpose(&self) -> Purpose {
        Purpose::Inode(self.ino)
    }

    /// The extents from `position` on, up to `end` or some more.
    ///
    /// # Errors
    ///
    /// As of [`ExtentMap::run`]; the log was told what is not sound.
    pub(super) fn run(&self, position: u64, end: u64) -> Result<LentRun<'a>> {
        let run = self.extents.run(self.access, self.ino, position, end);
        run.map_err(self.access.in_inode(self.ino))
    }
}
