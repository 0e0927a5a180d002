// SPDX-License-Identifier: GPL-2.0

//! Readahead of a filesystem type (`struct backing_dev_info`).

use crate::bindings;
use core::ptr::NonNull;
use kernel::{error::to_result, page::PAGE_SIZE, prelude::*};

/// How far the page cache reads ahead in files of a filesystem type, in
/// `/sys/class/bdi/NAME`. One for all superblocks: there is no device behind any of them, and
/// to register one for each takes as long as much else of a mount.
///
/// # Invariants
///
/// We own a reference to a valid `backing_dev_info` that is registered.
pub(crate) struct BackingDev(NonNull<bindings::backing_dev_info>);

// SAFETY: Those of block devices are used and dropped by all threads.
unsafe impl Send for BackingDev {}
// SAFETY: As above.
unsafe impl Sync for BackingDev {}

impl BackingDev {
    /// Registers one that reads `readahead` bytes ahead of a reader in order, and asks for
    /// `request` bytes at once if that much is read at once.
    ///
    /// # Errors
    ///
    /// `EEXIST` when the name is taken, `ENOMEM`.
    pub(crate) fn new(name: &CStr, readahead: usize, request: usize) -> Result<Self> {
        // SAFETY: Any number of a node may be given, or none.
        let bdi = unsafe { bindings::bdi_alloc(bindings::NUMA_NO_NODE) };
        let bdi = NonNull::new(bdi).ok_or(ENOMEM)?;
        // SAFETY: It is valid, and nobody else knows it. `%s` takes a C string.
        let registered = to_result(unsafe {
            (*bdi.as_ptr()).ra_pages = readahead.div_ceil(PAGE_SIZE);
            (*bdi.as_ptr()).io_pages = request.div_ceil(PAGE_SIZE);
            bindings::bdi_register(bdi.as_ptr(), c"%s".as_char_ptr(), name.as_char_ptr())
        });
        if let Err(error) = registered {
            // SAFETY: The reference that `bdi_alloc` gave us.
            unsafe { bindings::bdi_put(bdi.as_ptr()) };
            return Err(error);
        }
        // INVARIANT: As said.
        Ok(Self(bdi))
    }

    /// Makes it that of a new superblock, which drops its reference when it is killed.
    ///
    /// # Safety
    ///
    /// `sb` is valid, and being filled: it has none of its own.
    pub(crate) unsafe fn attach(&self, sb: *mut bindings::super_block) {
        // SAFETY: By the invariants and the caller.
        unsafe { (*sb).s_bdi = bindings::vfs_rs_bdi_get(self.0.as_ptr()) };
    }
}

impl Drop for BackingDev {
    fn drop(&mut self) {
        // SAFETY: By the invariants. Whoever still has a reference finds it unregistered.
        unsafe {
            bindings::bdi_unregister(self.0.as_ptr());
            bindings::bdi_put(self.0.as_ptr());
        }
    }
}
