// SPDX-License-Identifier: GPL-2.0

//! Slab caches of inodes (`alloc_inode_sb`).

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A slab cache of objects that begin with an inode.
///
/// # Invariants
///
/// It is a valid one.
pub(crate) struct InodeSlab(NonNull<bindings::kmem_cache>);

// SAFETY: A slab cache is used and dropped by any thread.
unsafe impl Send for InodeSlab {}
// SAFETY: As above.
unsafe impl Sync for InodeSlab {}

/// Whose memory the inodes take.
pub(crate) enum Payer {
    /// That of the cgroup of whoever first wants the inode.
    Cgroup,
    /// Nobody's: they serve all.
    Nobody,
}

/// What begins with an inode.
///
/// # Safety
///
/// It is `repr(C)`, and an inode is its first field.
pub(crate) unsafe trait InodeFirst {}

impl InodeSlab {
    /// A cache of `T`, with `name` in `/proc/slabinfo`, for whose objects `payer` pays.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new<T: InodeFirst>(name: &'static CStr, payer: Payer) -> Result<Self> {
        // Both fit by far: an inode takes some hundred bytes.
        let (size, align) = (size_of::<T>() as c_uint, align_of::<T>() as c_uint);
        let is_paid = matches!(payer, Payer::Cgroup);
        // SAFETY: The name lives as long as the module, the constructor fits what is there.
        let cache = unsafe {
            let name = name.as_char_ptr();
            bindings::vfs_rs_inode_cache(name, size, align, is_paid, Some(Self::construct))
        };
        // INVARIANT: It was just made.
        Ok(Self(NonNull::new(cache).ok_or(ENOMEM)?))
    }

    /// # Safety
    ///
    /// Only to be called by the slab allocator, as the constructor.
    unsafe extern "C" fn construct(object: *mut c_void) {
        // SAFETY: The slab allocator passes memory for an object, an inode first (`InodeFirst`).
        unsafe { bindings::inode_init_once(object.cast()) };
    }

    /// A new object for `sb`: its inode, or null if there is no memory.
    ///
    /// # Safety
    ///
    /// The superblock is a valid one, whose inodes are of this cache.
    pub(crate) unsafe fn alloc(&self, sb: *mut bindings::super_block) -> *mut bindings::inode {
        // SAFETY: By the caller and the invariants.
        unsafe { bindings::vfs_rs_alloc_inode(sb, self.0.as_ptr()) }
    }
}

impl Drop for InodeSlab {
    fn drop(&mut self) {
        // SAFETY: By the invariants. Superblocks are gone; the barrier waits for their last inodes.
        unsafe {
            bindings::rcu_barrier();
            bindings::kmem_cache_destroy(self.0.as_ptr());
        }
    }
}
