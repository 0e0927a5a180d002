// SPDX-License-Identifier: GPL-2.0

//! Mounts of internal filesystem types (`kern_mount`).

use crate::{backing_dev::BackingDev, bindings};
use core::ptr::NonNull;
use kernel::{error::from_err_ptr, prelude::*};

/// A mount that no path leads to.
///
/// # Invariants
///
/// It is a valid one by `kern_mount`.
pub(crate) struct PseudoMount(NonNull<bindings::vfsmount>);

// SAFETY: A mount is used and dropped by any thread.
unsafe impl Send for PseudoMount {}
// SAFETY: As above.
unsafe impl Sync for PseudoMount {}

impl PseudoMount {
    /// Mounts `fs`, with the readahead of `backing_dev`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `fs` is a filesystem type that is ready to be mounted, until this is dropped.
    pub(crate) unsafe fn new(
        fs: *mut bindings::file_system_type,
        backing_dev: &BackingDev,
    ) -> Result<Self> {
        // SAFETY: By the caller.
        let mount = from_err_ptr(unsafe { bindings::kern_mount(fs) })?;
        // INVARIANT: It was just made.
        let mount = Self(NonNull::new(mount).ok_or(ENOMEM)?);
        // SAFETY: The superblock is valid, has no `backing_dev_info`, and nobody else knows it
        // yet.
        unsafe { backing_dev.attach(mount.super_block()) };
        Ok(mount)
    }

    /// Its superblock.
    pub(crate) fn super_block(&self) -> *mut bindings::super_block {
        // SAFETY: By the invariants.
        unsafe { (*self.0.as_ptr()).mnt_sb }
    }
}

impl Drop for PseudoMount {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::kern_unmount(self.0.as_ptr()) };
    }
}
