// SPDX-License-Identifier: GPL-2.0

//! Folios of the page cache (`struct folio`).

use crate::bindings;
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{page::PAGE_SIZE, prelude::*};

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

    /// Its memory, where all of that is mapped anyway: everywhere but in highmem.
    fn address(&self) -> Option<NonNull<u8>> {
        // SAFETY: By the invariants.
        NonNull::new(unsafe { bindings::vfs_rs_folio_address(self.0.as_ptr()) }.cast())
    }

    /// What was written through the kernel's mapping is to be seen through others too.
    fn flush(&self) {
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_flush_dcache_folio(self.0.as_ptr()) };
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

/// Calls `write` with the memory of `folios`, side by side. What `write` does not write stays
/// what it was: nobody may complete a folio of which that is a part.
///
/// # Errors
///
/// `ENOMEM`, and those of `write`.
pub(crate) fn with_contiguous<R>(
    folios: &mut [LockedFolio<'_>],
    write: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<R>,
) -> Result<R> {
    if let [folio] = folios {
        if let Some(memory) = folio.address() {
            // SAFETY: The folio is mapped there, all of it, as long as it exists. It is
            // locked and not up to date, so nobody else looks at its content.
            let memory =
                unsafe { core::slice::from_raw_parts_mut(memory.cast().as_ptr(), folio.size()) };
            let result = write(memory)?;
            folio.flush();
            return Ok(result);
        }
    }
    let bytes = folios.iter().map(LockedFolio::size).sum::<usize>();
    let mut pages = KVVec::with_capacity(bytes / PAGE_SIZE, GFP_KERNEL)?;
    for folio in folios.iter() {
        for index in 0..folio.size() / PAGE_SIZE {
            // SAFETY: By the invariants; the folio has a page of that index.
            let page = unsafe { bindings::vfs_rs_folio_page(folio.0.as_ptr(), index) };
            pages.push(page, GFP_KERNEL)?;
        }
    }
    let mut mapping = Mapping::new(&mut pages)?;
    let result = write(mapping.memory())?;
    drop(mapping);
    folios.iter().for_each(LockedFolio::flush);
    Ok(result)
}

/// Pages mapped side by side (`vm_map_ram`), until dropped.
///
/// # Invariants
///
/// `address` is such a mapping of `count` pages.
struct Mapping {
    address: NonNull<c_void>,
    count: c_uint,
}

impl Mapping {
    fn new(pages: &mut [*mut bindings::page]) -> Result<Self> {
        let count = c_uint::try_from(pages.len()).map_err(|_| ENOMEM)?;
        // SAFETY: These are pages of folios that the caller keeps.
        let address =
            unsafe { bindings::vm_map_ram(pages.as_mut_ptr(), count, bindings::NUMA_NO_NODE) };
        // INVARIANT: It was just made.
        Ok(Self {
            address: NonNull::new(address).ok_or(ENOMEM)?,
            count,
        })
    }

    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.count as usize * PAGE_SIZE;
        // SAFETY: By the invariants; the pages are those of locked folios that are not up to
        // date, so nobody else looks at their content.
        unsafe { core::slice::from_raw_parts_mut(self.address.as_ptr().cast(), len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the invariants. Where caches are virtually indexed, what was written
        // here must be seen through other mappings.
        unsafe {
            bindings::vfs_rs_flush_vmap(self.address.as_ptr(), self.count as usize * PAGE_SIZE);
            bindings::vm_unmap_ram(self.address.as_ptr(), self.count);
        }
    }
}
