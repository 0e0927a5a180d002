// SPDX-License-Identifier: GPL-2.0

//! A page cache for data that belongs to no file: the address space of an inode without
//! a name. The kernel reclaims it as any other (`fs/erofs` keeps its compressed data so).

use crate::{
    bindings,
    folio::{self, LockedFolio},
    output::Output,
};
use core::{mem::MaybeUninit, ptr::NonNull};
use kernel::{error::from_err_ptr, page::PAGE_SHIFT, prelude::*};

/// A page cache of a mount's own ([`crate::SuperBlock::metadata_cache`]), or of several mounts
/// ([`crate::SharedCache`]). What is in it can be gone at any time.
///
/// # Invariants
///
/// We own a reference to a valid inode, whose address space nobody fills but by this type.
pub struct PrivateCache(NonNull<bindings::inode>);

// SAFETY: Inodes and address spaces are used by all threads.
unsafe impl Send for PrivateCache {}
// SAFETY: As above.
unsafe impl Sync for PrivateCache {}

impl PrivateCache {
    /// An empty cache for `sb`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The superblock is valid, its operations are set, and it outlives the cache, which
    /// must be gone at the end of `put_super`.
    pub(crate) unsafe fn new(sb: *mut bindings::super_block) -> Result<Self> {
        // SAFETY: By the caller.
        let inode = NonNull::new(unsafe { bindings::new_inode(sb) }).ok_or(ENOMEM)?;
        // SAFETY: The inode is ours alone. It is never dirty, nor freed for want of links.
        unsafe {
            let inode = inode.as_ptr();
            bindings::set_nlink(inode, 1);
            bindings::vfs_rs_inode_set_size(inode, bindings::VFS_RS_MAX_LFS_FILESIZE);
            bindings::vfs_rs_mapping_set_large_folios((*inode).i_mapping);
            // It is read in place.
            bindings::vfs_rs_mapping_avoid_highmem((*inode).i_mapping);
        }
        // INVARIANT: It was just made, and only we know it.
        Ok(Self(inode))
    }

    /// The cache of `inode`, a reference to which it takes over.
    ///
    /// # Safety
    ///
    /// As the invariants say; and the superblock of the inode outlives the cache.
    pub(crate) unsafe fn from_raw(inode: NonNull<bindings::inode>) -> Self {
        Self(inode)
    }

    /// How much content there is, if it was ever filled and had an end ([`Self::set_size`]).
    pub fn size(&self) -> u64 {
        // SAFETY: By the invariants. A size is not negative.
        unsafe { bindings::vfs_rs_inode_size(self.0.as_ptr()) }
            .try_into()
            .unwrap_or(0)
    }

    /// Says how much content there is.
    pub fn set_size(&self, size: u64) {
        let inode = self.0.as_ptr();
        // SAFETY: By the invariants; `i_size_write` wants the lock.
        unsafe {
            bindings::down_write(&raw mut (*inode).i_rwsem);
            bindings::vfs_rs_inode_set_size(inode, size.try_into().unwrap_or(i64::MAX));
            bindings::up_write(&raw mut (*inode).i_rwsem);
        }
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: By the invariants.
        unsafe { (*self.0.as_ptr()).i_mapping }
    }

    /// Calls `sink` with up to `len` bytes from `position` on, piece by piece, as far as they
    /// are there. Returns how many they were.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have, and those of `sink`.
    pub fn read(
        &self,
        position: u64,
        len: usize,
        mut sink: impl FnMut(&[u8]) -> Result,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let at = position.saturating_add(done as u64);
            let Some(folio) = PinnedFolio::find(self.mapping(), page_index(at)?) else {
                break;
            };
            let offset = usize::try_from(at.saturating_sub(folio.position())).map_err(|_| EFBIG)?;
            let bytes = folio.bytes().get(offset..).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            let piece = bytes.get(..len - done).unwrap_or(bytes);
            // SAFETY: By the invariants of the pin.
            unsafe { bindings::folio_mark_accessed(folio.0.as_ptr()) };
            sink(piece)?;
            done += piece.len();
        }
        Ok(done)
    }

    /// Fills `len` bytes from `position` on, the begin of a page, by `fill`, which is to write
    /// all of them. What is there already stays.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EFBIG` for a position that the page cache cannot have, `EIO` when `fill` has
    /// not written all, and those of `fill`.
    pub fn fill(
        &self,
        position: u64,
        len: usize,
        fill: impl FnOnce(&mut Output<'_>) -> Result,
    ) -> Result {
        let end = position.saturating_add(len as u64);
        let mut pins = KVec::new();
        let mut missing = KVec::new();
        let mut at = position;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let (pin, locked) = PinnedFolio::grab(self.mapping(), page_index(at)?, want)?;
            if locked.is_some() && pin.position() != at {
                return Err(EIO);
            }
            at = pin.position().saturating_add(pin.size() as u64);
            pins.push(pin, GFP_KERNEL)?;
            if let Some(locked) = locked {
                missing.push(locked, GFP_KERNEL)?;
            }
        }
        if missing.len() == pins.len() {
            folio::with_contiguous(&mut missing, |memory| {
                let (memory, rest) = memory.split_at_mut_checked(len).ok_or(EIO)?;
                rest.fill(MaybeUninit::new(0));
                Output::fill(memory, fill).map(|_| ())
            })?;
        } else if !missing.is_empty() {
            // Folios that others may be reading are not to be written to, not even what
            // they hold: decompressors write beyond what they have done.
            let mut copy = KVVec::with_capacity(len, GFP_KERNEL)?;
            let memory = copy.spare_capacity_mut().get_mut(..len).ok_or(ENOMEM)?;
            let bytes = Output::fill(memory, fill)?;
            for folio in &mut missing {
                let offset = usize::try_from(folio.position() - position).map_err(|_| EIO)?;
                let bytes = bytes.get(offset..).unwrap_or_default();
                let bytes = bytes.get(..folio.size()).unwrap_or(bytes);
                folio.write(0, bytes)?;
                folio.zero(bytes.len(), folio.size() - bytes.len())?;
            }
        }
        missing.into_iter().for_each(LockedFolio::complete);
        Ok(())
    }

    /// Whether `position` is there, now.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have.
    pub fn has(&self, position: u64) -> Result<bool> {
        Ok(PinnedFolio::find(self.mapping(), page_index(position)?).is_some())
    }

    /// The folio at `position`, if it is there; it counts as used.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have.
    pub(crate) fn pin(&self, position: u64) -> Result<Option<PinnedFolio>> {
        let pin = PinnedFolio::find(self.mapping(), page_index(position)?);
        if let Some(pin) = &pin {
            // SAFETY: By the invariants of the pin.
            unsafe { bindings::folio_mark_accessed(pin.0.as_ptr()) };
        }
        Ok(pin)
    }

    /// Drops what is there of `len` bytes from `position` on.
    pub fn forget(&self, position: u64, len: usize) {
        let last = position.saturating_add(len as u64).saturating_sub(1);
        if let (Ok(first), Ok(last)) = (page_index(position), page_index(last)) {
            // SAFETY: By the invariants.
            unsafe { bindings::invalidate_mapping_pages(self.mapping(), first, last) };
        }
    }
}

impl Drop for PrivateCache {
    fn drop(&mut self) {
        // SAFETY: By the invariants; the superblock is still there, by contract of `new`.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// The index of the page at `position` (`pgoff_t`).
fn page_index(position: u64) -> Result<usize> {
    usize::try_from(position >> PAGE_SHIFT).map_err(|_| EFBIG)
}

/// A folio of a [`PrivateCache`] that does not go away.
///
/// # Invariants
///
/// We own a reference to a valid folio.
pub(crate) struct PinnedFolio(NonNull<bindings::folio>);

impl PinnedFolio {
    /// The folio of page `index`, if it is there and up to date.
    fn find(mapping: *mut bindings::address_space, index: usize) -> Option<Self> {
        // SAFETY: The mapping is valid; on success we own a reference.
        let folio = unsafe { bindings::vfs_rs_filemap_get_folio(mapping, index) };
        let folio = NonNull::new(from_err_ptr(folio).ok()?)?;
        // INVARIANT: As said.
        let folio = Self(folio);
        folio.is_up_to_date().then_some(folio)
    }

    /// The folio of page `index`, made if it is not there, with `want` bytes if possible;
    /// locked unless it is up to date.
    fn grab<'a>(
        mapping: *mut bindings::address_space,
        index: usize,
        want: usize,
    ) -> Result<(Self, Option<LockedFolio<'a>>)> {
        // SAFETY: The mapping is valid; on success we own a reference and the lock.
        let folio = unsafe { bindings::vfs_rs_filemap_grab_folio(mapping, index, want) };
        let folio = NonNull::new(from_err_ptr(folio)?).ok_or(ENOMEM)?;
        // INVARIANT: As said.
        let pin = Self(folio);
        if pin.is_up_to_date() {
            // SAFETY: It was locked for us.
            unsafe { bindings::folio_unlock(folio.as_ptr()) };
            return Ok((pin, None));
        }
        // SAFETY: It is locked by us and not up to date. Locked, it stays in the cache.
        let locked = unsafe { LockedFolio::from_raw(folio) };
        Ok((pin, Some(locked)))
    }

    /// Where in the cache it begins.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: By the invariants. A position in a file is not negative.
        unsafe { bindings::vfs_rs_folio_pos(self.0.as_ptr()) }
            .try_into()
            .unwrap_or(0)
    }

    fn size(&self) -> usize {
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_folio_size(self.0.as_ptr()) }
    }

    fn is_up_to_date(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_folio_test_uptodate(self.0.as_ptr()) }
    }

    /// Its content, if it is up to date.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: By the invariants.
        let memory: *const u8 = unsafe { bindings::vfs_rs_folio_address(self.0.as_ptr()) }.cast();
        if memory.is_null() {
            return &[];
        }
        // SAFETY: The folio is mapped there, all of it. The content of a folio of this cache
        // does not change once it is up to date.
        unsafe { core::slice::from_raw_parts(memory, self.size()) }
    }
}

impl Drop for PinnedFolio {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_folio_put(self.0.as_ptr()) };
    }
}
