// SPDX-License-Identifier: GPL-2.0

//! Numbers of the filesystems that layouts are on.

use crate::tables::{Lent, Table};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use vfs::lower;

/// Gives each of them its number. What stands in a page cache outlives the mount
/// that it was read by, and then the filesystem of that layout may go; the next one can have its
/// device number and, in its files, all other numbers of it. These never come back.
pub(crate) struct Filesystems {
    numbers: Arc<Table<usize, u64>>,
    last: Atomic<u64>,
}

/// The number of a filesystem, its own as long as any of these is there.
pub(crate) struct FilesystemNumber {
    // Before the path, which keeps the filesystem that it is the number of.
    number: Lent<usize, u64>,
    _path: lower::Path,
}

impl FilesystemNumber {
    /// The number.
    pub(crate) fn get(&self) -> u64 {
        *self.number
    }
}

impl Filesystems {
    /// None yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            numbers: Table::new(GFP_KERNEL)?,
            last: Atomic::new(0),
        })
    }

    /// The number of the filesystem that `path` is on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn number(&self, path: &lower::Path) -> Result<FilesystemNumber> {
        let next = || Ok(self.last.fetch_add(1, Relaxed));
        Ok(FilesystemNumber {
            number: Table::get(&self.numbers, path.filesystem(), next)?,
            _path: path.clone(),
        })
    }
}
