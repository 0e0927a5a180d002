// SPDX-License-Identifier: GPL-2.0

//! Page caches that files of several superblocks share.
//!
//! `inode->i_mapping` of such a file, and `file->f_mapping` whenever it is open, is not the
//! inode's own `i_data`, but that of an inode of an internal superblock, which stands for the
//! content ([`crate::Inode::share_page_cache`]). So the page cache of a block device is that of
//! whoever opens a node of it (`blkdev_open`), and Coda's that of the file it has its data in.
//! There is no other open file behind the user's (`fs/erofs/ishare.c` has one,
//! `backing_file_open`): permissions, security modules, fanotify, mincore, uprobes and
//! `/proc/PID/maps` see the file and the inode that the user opened, and nothing else.
//!
//! **Lifetime.** An inode owns a reference to the one whose page cache it shares, from its
//! first open until it is evicted. Shared are pages and nothing else: nothing here leads to a
//! superblock. What is not there is read through the file that the page cache is asked
//! through, whose superblock is there because that file is open; a VMA holds its file. So a
//! superblock can go while another's files map what was read through it. Pages that no file
//! has are in the page cache as before, until memory is short, or a file of that content is
//! opened again, be it of a superblock that comes later: as if there was one filesystem with
//! all of them. When the last superblock goes, so do the internal one and all pages.
//!
//! A [`SharedCache`] is such an inode without files: the filesystem itself fills it, with what
//! several small files are read from.
//!
//! **Errors.** A read that fails leaves folios that are not up to date. Whoever comes next,
//! or waited for them, reads again, through a file of his own: a fault of one superblock's
//! data is not the others'. `wb_err` and `AS_EIO` are of writeback, which there is none of.
//!
//! **What users of one superblock learn of another's.** Which pages are there, by mincore(2)
//! or the time that a read takes; and they can drop them, by `POSIX_FADV_DONTNEED`. Whoever
//! wants a folio waits for whoever is reading it, be that from a slower disk. So a superblock
//! whose data is in a file of another one, by a loop device, must not share with that: a reader
//! of a file whose content claims to be that other file's would wait for itself.

use crate::{
    backing_dev::BackingDev,
    bindings,
    inode_slab::{InodeFirst, InodeSlab},
    pseudo_mount::PseudoMount,
    PrivateCache,
};
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    types::Opaque,
};

/// The shared page caches of a filesystem type. They belong to inodes of an internal
/// superblock, which is mounted as long as there is a [`SharedCaches`].
#[pin_data]
pub(crate) struct SharedMappings {
    #[pin]
    mounted: Mutex<Mounted>,
    inodes: InodeSlab,
    #[pin]
    fs: Opaque<bindings::file_system_type>,
}

#[derive(Default)]
struct Mounted {
    users: usize,
    /// There is one as long as there are users.
    mount: Option<PseudoMount>,
}

/// Says which content a file has: files with the same one have the same.
pub type Fingerprint = [u8; 32];

/// The content that an inode stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Content {
    fingerprint: Fingerprint,
    whose: Whose,
}

/// Who fills a page cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Files that share it.
    Files,
    /// The filesystem ([`SharedCache`]).
    Ours,
}

/// What the slab allocates: an inode, and what it stands for.
#[repr(C)]
struct Slot {
    inode: bindings::inode,
    content: Content,
}

// SAFETY: It is `repr(C)`, and begins with an inode.
unsafe impl InodeFirst for Slot {}

impl SharedMappings {
    const SUPER: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Self::alloc_inode),
        free_inode: Some(Self::free_inode),
        ..pin_init::zeroed()
    };

    /// None yet, of a filesystem type of `module`. As in [`crate::FileSystem`] are the `name` of
    /// the internal filesystem type, and `inode_cache`.
    pub(crate) fn new(
        name: &'static CStr,
        inode_cache: &'static CStr,
        module: &'static ThisModule,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            mounted <- new_mutex!(Mounted::default()),
            inodes: InodeSlab::new::<Slot>(inode_cache)?,
            fs <- Opaque::ffi_init(move |slot: *mut bindings::file_system_type| {
                let mut fs: bindings::file_system_type = pin_init::zeroed();
                // So the module stays as long as there is a user.
                fs.owner = module.as_ptr();
                fs.name = name.as_char_ptr();
                fs.init_fs_context = Some(Self::init_fs_context);
                fs.kill_sb = Some(bindings::kill_anon_super);
                // SAFETY: `slot` is writable.
                unsafe { slot.write(fs) };
            }),
        })
    }

    /// Mounts the internal superblock, unless it is, until the result is dropped. Its readahead
    /// is that of `backing_dev`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// These are pinned, and outlive the result.
    pub(crate) unsafe fn enter(&self, backing_dev: &BackingDev) -> Result<Arc<SharedCaches>> {
        let mut mounted = self.mounted.lock();
        let mount = match &mounted.mount {
            Some(mount) => mount,
            None => {
                // SAFETY: `fs` is pinned, and stays as long as there are users. The slab that
                // it allocates from is in the same struct.
                let mount = unsafe { PseudoMount::new(self.fs.get(), backing_dev)? };
                mounted.mount.insert(mount)
            }
        };
        let sb = mount.super_block();
        mounted.users += 1;
        // Whoever drops a user takes the lock.
        drop(mounted);
        // INVARIANT: It is counted, so that the mount stays.
        let user = SharedCaches {
            mappings: self.into(),
            sb,
        };
        Ok(Arc::new(user, GFP_KERNEL)?)
    }

    /// # Safety
    ///
    /// Only to be called by `iget5_locked` in [`SharedCaches::get`].
    unsafe extern "C" fn test(inode: *mut bindings::inode, data: *mut c_void) -> c_int {
        // SAFETY: An inode of the internal superblock is in a slot, and stays for an RCU grace
        // period after it can be found; `data` is what `get` passes.
        unsafe { ((*inode.cast::<Slot>()).content == *data.cast::<Content>()).into() }
    }

    /// # Safety
    ///
    /// As [`SharedMappings::test`].
    unsafe extern "C" fn set(inode: *mut bindings::inode, data: *mut c_void) -> c_int {
        // SAFETY: As above; a new inode is ours alone.
        unsafe { (*inode.cast::<Slot>()).content = *data.cast::<Content>() };
        0
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_system_type.init_fs_context`.
    unsafe extern "C" fn init_fs_context(context: *mut kernel::bindings::fs_context) -> c_int {
        // SAFETY: The VFS passes a new context.
        let pseudo = unsafe { bindings::init_pseudo(context.cast(), 0) };
        if pseudo.is_null() {
            return ENOMEM.to_errno();
        }
        // SAFETY: It was just made, and belongs to the context.
        unsafe { (*pseudo).ops = &Self::SUPER };
        0
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.alloc_inode`.
    unsafe extern "C" fn alloc_inode(sb: *mut bindings::super_block) -> *mut bindings::inode {
        // SAFETY: The superblock is that of a `SharedMappings`, whose `fs` was its type;
        // `Opaque` is transparent.
        unsafe {
            let fs: *mut Opaque<bindings::file_system_type> = (*sb).s_type.cast();
            let this = kernel::container_of!(fs, Self, fs);
            (*this).inodes.alloc(sb)
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.free_inode`.
    unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        // SAFETY: The VFS frees each inode once, after an RCU grace period; the inode is the
        // first field of its slot, and the slab knows its cache.
        unsafe { bindings::kfree(inode.cast()) };
    }
}

/// Access to the shared page caches, for a superblock whose files use them.
///
/// # Invariants
///
/// `mappings` are valid, have counted this, and so keep `sb` mounted.
pub struct SharedCaches {
    mappings: NonNull<SharedMappings>,
    sb: *mut bindings::super_block,
}

// SAFETY: The superblock is only handed to functions of the VFS that any thread may call, the
// rest is behind a lock.
unsafe impl Send for SharedCaches {}
// SAFETY: As above.
unsafe impl Sync for SharedCaches {}

impl SharedCaches {
    /// The inode whose page cache is for `content`; the caller gets a reference. `init` gets a
    /// new one, which others can find, but wait for.
    fn get(
        &self,
        content: Content,
        init: impl FnOnce(*mut bindings::inode),
    ) -> Result<NonNull<bindings::inode>> {
        let hash = content.fingerprint.first_chunk().copied();
        // SAFETY: The superblock is mounted; its inodes are in slots, as `test` and `set` need
        // it, which get the content that they are given here.
        let inode = unsafe {
            bindings::iget5_locked(
                self.sb,
                u64::from_le_bytes(hash.unwrap_or_default()),
                Some(SharedMappings::test),
                Some(SharedMappings::set),
                (&raw const content).cast_mut().cast(),
            )
        };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: `iget5_locked` gave us a reference. Until a new inode is unlocked nobody but us
        // looks at what is set here.
        unsafe {
            let inode = inode.as_ptr();
            if bindings::vfs_rs_inode_is_new(inode) {
                (*inode).i_mode = (bindings::S_IFREG | 0o444) as bindings::umode_t;
                (*inode).i_flags |= bindings::VFS_RS_S_PRIVATE;
                bindings::vfs_rs_mapping_set_large_folios((*inode).i_mapping);
                init(inode);
                bindings::unlock_new_inode(inode);
            }
        }
        Ok(inode)
    }

    /// The page cache for content `fingerprint`, to be filled by whoever has got it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn cache(self: &Arc<Self>, fingerprint: &Fingerprint) -> Result<SharedCache> {
        let content = Content {
            fingerprint: *fingerprint,
            whose: Whose::Ours,
        };
        // SAFETY: A new inode has its own mapping, which nobody else looks at.
        let inode = self.get(content, |inode| unsafe {
            bindings::vfs_rs_mapping_avoid_highmem((*inode).i_mapping);
        })?;
        Ok(SharedCache {
            // SAFETY: We own a reference, and no file has the page cache of such an inode. The
            // user keeps its superblock, and is dropped after it.
            cache: unsafe { PrivateCache::from_raw(inode) },
            _user: self.clone(),
        })
    }

    /// Makes the page cache for content `fingerprint`, which `file` has, that of `file`, unless
    /// it shares one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `file` is a valid inode of a regular file, of the one type that these are for, which
    /// [`evict_inode`] is to evict.
    pub(crate) unsafe fn share(
        &self,
        fingerprint: &Fingerprint,
        file: *mut bindings::inode,
    ) -> Result {
        let content = Content {
            fingerprint: *fingerprint,
            whose: Whose::Files,
        };
        // SAFETY: Nobody else looks at these fields of a new inode; by the caller `file` is valid.
        let shared = self.get(content, |shared| unsafe {
            // Nobody opens it. It tells which files this can be read through.
            (*shared).__bindgen_anon_3.i_fop = (*file).__bindgen_anon_3.i_fop;
            (*shared).i_data.a_ops = (*file).i_data.a_ops;
            bindings::vfs_rs_inode_set_size(shared, bindings::vfs_rs_inode_size(file));
        })?;
        let shared = shared.as_ptr();
        // SAFETY: Both inodes are valid. Our reference to the shared one goes to the file, or
        // away if the file has got one meanwhile.
        unsafe {
            if !bindings::vfs_rs_inode_share_mapping(file, (*shared).i_mapping) {
                bindings::iput(shared);
            }
        }
        Ok(())
    }
}

/// A page cache of its own for content that several superblocks use, by the name of a
/// fingerprint ([`SharedCaches::cache`]).
pub struct SharedCache {
    // Before the user, who keeps the superblock that its inode belongs to.
    cache: PrivateCache,
    _user: Arc<SharedCaches>,
}

impl Deref for SharedCache {
    type Target = PrivateCache;

    fn deref(&self) -> &PrivateCache {
        &self.cache
    }
}

impl Drop for SharedCaches {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        let mut mounted = unsafe { self.mappings.as_ref() }.mounted.lock();
        mounted.users -= 1;
        if mounted.users == 0 {
            // Under the lock: the next one is mounted after that. No inode of it is in use:
            // inodes that own one are evicted before their superblock ceases to be a user, and a
            // `SharedCache` is one itself.
            mounted.mount = None;
        }
    }
}

/// `super_operations.evict_inode` of superblocks whose files share page caches.
///
/// # Safety
///
/// Only to be called by the VFS.
pub(crate) unsafe extern "C" fn evict_inode(inode: *mut bindings::inode) {
    // SAFETY: Nobody else uses the inode. If `i_mapping` of a regular file is not its own, then
    // `share` put it there, with a reference to the inode that it belongs to. That of a device
    // is what its driver made of it (`dax_open`), and not ours.
    unsafe {
        let own = &raw mut (*inode).i_data;
        bindings::truncate_inode_pages_final(own);
        bindings::clear_inode(inode);
        if u32::from((*inode).i_mode) & bindings::S_IFMT != bindings::S_IFREG {
            return;
        }
        let mapping = core::mem::replace(&mut (*inode).i_mapping, own);
        if mapping != own {
            bindings::iput((*mapping).host);
        }
    }
}
