// SPDX-License-Identifier: GPL-2.0

//! Folios of the page cache (`struct folio`).

use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::prelude::*;

/// A folio of the page cache that is locked for being read into. Dropped, it is unlocked
/// with an error (`folio_end_read`).
///
/// # Invariants
///
/// The folio is locked by us, not up to date, and stays in the page cache for `'a`.
pub(crate) struct LockedFolio<'a>(NonNull<bindings::folio>, PhantomData<&'a ()>);

impl LockedFolio<'_> {
    /// # Safety
    ///
    /// As the invariants say.
    pub(crate) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        Self(folio, PhantomData)
    }

    /// The position in the file of its first byte.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: By the invariants. A position in a file is not negative.
        unsafe { bindings::vfs_rs_folio_pos(self.0.as_ptr()) }
            .try_into()
            .unwrap_or(0)
    }

    /// The position in the file behind its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.position().saturating_add(self.size() as u64)
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_folio_size(self.0.as_ptr()) }
    }

    /// Copies `bytes` to `offset`; both lie inside the folio.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result {
        self.check(offset, bytes.len())?;
        // SAFETY: The range lies inside the folio, which we have locked.
        unsafe {
            bindings::vfs_rs_memcpy_to_folio(
                self.0.as_ptr(),
                offset,
                bytes.as_ptr().cast(),
                bytes.len(),
            )
        };
        Ok(())
    }

    /// Zeroes `len` bytes at `offset`; the range lies inside the folio.
    pub(crate) fn zero(&mut self, offset: usize, len: usize) -> Result {
        self.check(offset, len)?;
        // SAFETY: The range lies inside the folio, which we have locked.
        unsafe { bindings::vfs_rs_folio_zero_range(self.0.as_ptr(), offset, len) };
        Ok(())
    }

    /// Marks the folio up to date and unlocks it.
    pub(crate) fn complete(self) {
        // SAFETY: By the invariants; forgetting `self` gives up the lock.
        unsafe { bindings::folio_end_read(self.0.as_ptr(), true) };
        core::mem::forget(self);
    }

    fn check(&self, offset: usize, len: usize) -> Result {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(EINVAL),
        }
    }
}

impl Drop for LockedFolio<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariants; this gives up the lock.
        unsafe { bindings::folio_end_read(self.0.as_ptr(), false) };
    }
}
