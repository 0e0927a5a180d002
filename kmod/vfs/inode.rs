// SPDX-License-Identifier: GPL-2.0

//! Inodes (`struct inode`), new and published, and the cache that they live in.

use crate::{
    address_space, bindings, dentry, file,
    filesystem::{FileSystem, Registration},
    inode_slab::{InodeFirst, InodeSlab},
    shared_mapping::Fingerprint,
    super_block::SuperBlock,
    xattr,
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{prelude::*, types::Opaque};

/// The longest name of a directory entry, in bytes.
pub(crate) const NAME_MAX: u32 = bindings::NAME_MAX;

/// A published inode of `T`.
///
/// # Invariants
///
/// It is the `inode` of an initialised [`Slot<T>`], of a `Ready` superblock of `T` that
/// is held at least as long as any reference to the inode lives.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

// SAFETY: Inodes are shared by all threads; the data is `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for Inode<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `inode` is valid for `'a` and as the invariants say.
    pub(crate) unsafe fn from_raw<'a>(inode: *const bindings::inode) -> &'a Self {
        // SAFETY: By the caller; the type is transparent.
        unsafe { &*inode.cast() }
    }

    /// The inode number.
    pub fn ino(&self) -> u64 {
        // SAFETY: The number of a published inode does not change.
        unsafe { (*self.0.get()).i_ino }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: By the invariants. No negative size was ever stored.
        unsafe { bindings::vfs_rs_inode_size(self.0.get()) }
            .try_into()
            .unwrap_or(0)
    }

    /// The superblock.
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the invariants.
        unsafe { SuperBlock::from_raw((*self.0.get()).i_sb) }
    }

    /// Has this regular file share its page cache with all files of the type that have the
    /// same `fingerprint`, which must have the same content. Only before anyone reads it, that
    /// is, from [`FileSystem::open`]; nothing happens if it shares one already.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is not a regular file, `ENOMEM`.
    pub fn share_page_cache(&self, fingerprint: &Fingerprint) -> Result {
        let inode = self.0.get();
        let caches = self.super_block().shared_caches();
        // SAFETY: By the invariants the inode is valid, its type does not change, and
        // `evict_inode` is that of the operations of its superblock.
        unsafe {
            if u32::from((*inode).i_mode) & bindings::S_IFMT != bindings::S_IFREG {
                return Err(EINVAL);
            }
            caches.share(fingerprint, inode)
        }
    }

    /// Whether it shares its page cache.
    pub fn shares_page_cache(&self) -> bool {
        let inode = self.0.get();
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_inode_mapping(inode) != &raw mut (*inode).i_data }
    }

    /// The filesystem's data of this inode.
    pub fn data(&self) -> &T::InodeData {
        // SAFETY: By the invariants the inode lies in an initialised slot.
        unsafe { (*Slot::<T>::of(self.0.get())).data.assume_init_ref() }
    }
}

/// A counted reference to an inode (`i_count`). Inodes do not keep their superblock, so
/// neither does this: it lives no longer than a borrow of that.
///
/// # Invariants
///
/// We own one reference to an [`Inode<T>`].
pub struct InodeRef<'sb, T: FileSystem>(NonNull<bindings::inode>, PhantomData<&'sb Inode<T>>);

impl<T: FileSystem> InodeRef<'_, T> {
    /// The generation that it was made with ([`Attributes::generation`]).
    pub(crate) fn generation(&self) -> u32 {
        // SAFETY: By the invariants; it does not change once the inode is published.
        unsafe { (*self.0.as_ptr()).i_generation }
    }

    /// # Safety
    ///
    /// As the invariants say; the caller gives up its reference.
    pub(crate) unsafe fn from_raw(inode: NonNull<bindings::inode>) -> Self {
        Self(inode, PhantomData)
    }

    /// Gives up the reference to the caller.
    pub(crate) fn into_raw(self) -> *mut bindings::inode {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl<T: FileSystem> Drop for InodeRef<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// What [`SuperBlock::iget`] finds.
pub enum Iget<'sb, T: FileSystem> {
    /// The inode in memory.
    Found(InodeRef<'sb, T>),
    /// A new inode, to be filled by [`NewInode::init`].
    New(NewInode<'sb, T>),
}

/// An inode that is locked (`I_NEW`) and not filled yet. Dropped as it is, it fails for
/// everyone who waits for it (`iget_failed`).
///
/// # Invariants
///
/// It is a valid inode in a [`Slot<T>`], in the state `I_NEW`, of which this is the only
/// user; we own a reference.
pub struct NewInode<'sb, T: FileSystem>(NonNull<bindings::inode>, PhantomData<&'sb Inode<T>>);

/// The type of a directory entry (`DT_*`), as `readdir(3)` shows it.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum DirEntryType {
    /// A fifo.
    Fifo = bindings::DT_FIFO,
    /// A character device.
    CharDevice = bindings::DT_CHR,
    /// A directory.
    Directory = bindings::DT_DIR,
    /// A block device.
    BlockDevice = bindings::DT_BLK,
    /// A regular file.
    Regular = bindings::DT_REG,
    /// A symbolic link.
    Symlink = bindings::DT_LNK,
    /// A socket.
    Socket = bindings::DT_SOCK,
}

/// What an inode is.
pub enum InodeKind<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// The attributes of a new inode.
pub struct Attributes<'a> {
    /// What it is.
    pub kind: InodeKind<'a>,
    /// Permission bits with set-id and sticky bits (`07777`).
    pub permissions: u16,
    /// Owner, in the superblock's user namespace.
    pub uid: u32,
    /// Group, in the superblock's user namespace.
    pub gid: u32,
    /// Tells this inode from others that had or have its number, in file handles.
    pub generation: u32,
    /// Whether it may have a POSIX ACL.
    pub acl: bool,
    /// Number of links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of it that are in holes, which `st_blocks` does not count.
    pub holes: u64,
    /// All times, in seconds since the epoch.
    pub time_sec: i64,
    /// Nanoseconds of all times.
    pub time_nsec: u32,
}

impl<'sb, T: FileSystem> NewInode<'sb, T> {
    /// # Safety
    ///
    /// As the invariants say.
    pub(crate) unsafe fn from_raw(inode: NonNull<bindings::inode>) -> Self {
        Self(inode, PhantomData)
    }

    /// Fills the inode and publishes it.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` for a size or an owner that the VFS cannot hold, `ENOMEM`, and those
    /// of `data`.
    pub fn init<E>(
        self,
        attributes: &Attributes<'_>,
        data: impl PinInit<T::InodeData, E>,
    ) -> Result<InodeRef<'sb, T>>
    where
        Error: From<E>,
    {
        let inode = self.0.as_ptr();
        let size: i64 = attributes.size.try_into().map_err(|_| EOVERFLOW)?;
        let mode: u32 = match attributes.kind {
            InodeKind::Directory => bindings::S_IFDIR,
            InodeKind::Regular => bindings::S_IFREG,
            InodeKind::Symlink(_) => bindings::S_IFLNK,
            InodeKind::Fifo => bindings::S_IFIFO,
            InodeKind::Socket => bindings::S_IFSOCK,
            InodeKind::CharDevice(..) => bindings::S_IFCHR,
            InodeKind::BlockDevice(..) => bindings::S_IFBLK,
        } | u32::from(attributes.permissions & 0o7777);
        // A mode has 16 bits.
        let mode = mode as bindings::umode_t;

        // SAFETY: By the invariants the inode is valid and ours alone until it is unlocked.
        unsafe {
            let slot = Slot::<T>::of(inode);
            data.__init((&raw mut (*slot).data).cast())?;
            (*slot).initialised = true;
            (*inode).i_mode = mode;
            (*inode).i_blocks = attributes
                .size
                .saturating_sub(attributes.holes)
                .div_ceil(512);
            (*inode).i_generation = attributes.generation;
            if !attributes.acl {
                // So that path walks need not leave RCU to look for one.
                bindings::vfs_rs_cache_no_acl(inode);
            }
            bindings::set_nlink(inode, attributes.nlink);
            bindings::vfs_rs_inode_set_size(inode, size);
            bindings::vfs_rs_inode_set_times(inode, attributes.time_sec, attributes.time_nsec);
            if !bindings::vfs_rs_inode_set_owner(inode, attributes.uid, attributes.gid) {
                return Err(EOVERFLOW);
            }
            match attributes.kind {
                InodeKind::Directory => {
                    (*inode).i_op = &dentry::Operations::<T>::DIRECTORY_INODE;
                    (*inode).__bindgen_anon_3.i_fop = &file::Operations::<T>::DIRECTORY;
                }
                InodeKind::Regular => {
                    (*inode).i_op = &xattr::Operations::<T>::REGULAR_INODE;
                    (*inode).__bindgen_anon_3.i_fop = &file::Operations::<T>::REGULAR;
                    (*inode).i_data.a_ops = &address_space::Operations::<T>::TABLE;
                    bindings::vfs_rs_mapping_set_large_folios((*inode).i_mapping);
                }
                InodeKind::Symlink(target) => {
                    let mut link = KVec::with_capacity(target.len() + 1, GFP_KERNEL_ACCOUNT)?;
                    link.extend_from_slice(target, GFP_KERNEL_ACCOUNT)?;
                    link.push(0, GFP_KERNEL_ACCOUNT)?;
                    // `free_inode` frees it: path walks under RCU may still read it before.
                    (*inode).__bindgen_anon_5.i_link = link.into_raw_parts().0.cast();
                    (*inode).i_op = &xattr::Operations::<T>::SYMLINK_INODE;
                }
                InodeKind::Fifo | InodeKind::Socket => {
                    (*inode).i_op = &xattr::Operations::<T>::INODE;
                    bindings::init_special_inode(inode, mode, 0);
                }
                InodeKind::CharDevice(major, minor) | InodeKind::BlockDevice(major, minor) => {
                    (*inode).i_op = &xattr::Operations::<T>::INODE;
                    let device = bindings::vfs_rs_dev_major_minor(major, minor);
                    bindings::init_special_inode(inode, mode, device);
                }
            }
            bindings::unlock_new_inode(inode);
        }
        let inode = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: The slot is initialised, and we hand over our reference.
        Ok(unsafe { InodeRef::from_raw(inode) })
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants; this consumes our reference.
        unsafe { bindings::iget_failed(self.0.as_ptr()) };
    }
}

/// What the inode cache allocates: an inode with the filesystem's data behind it.
#[repr(C)]
struct Slot<T: FileSystem> {
    inode: bindings::inode,
    data: MaybeUninit<T::InodeData>,
    /// Whether `data` is valid; set by [`NewInode::init`].
    initialised: bool,
}

impl<T: FileSystem> Slot<T> {
    /// The slot of an inode of `T`: the inode is its first field.
    fn of(inode: *mut bindings::inode) -> *mut Self {
        inode.cast()
    }
}

// SAFETY: It is `repr(C)`, and begins with an inode.
unsafe impl<T: FileSystem> InodeFirst for Slot<T> {}

/// The slab cache of the inodes of `T`.
pub(crate) struct Cache<T>(InodeSlab, PhantomData<T>);

impl<T: FileSystem> Cache<T> {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(
            InodeSlab::new::<Slot<T>>(T::INODE_CACHE)?,
            PhantomData,
        ))
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.alloc_inode`.
    pub(crate) unsafe extern "C" fn alloc_inode(
        sb: *mut bindings::super_block,
    ) -> *mut bindings::inode {
        // SAFETY: The VFS passes a superblock of `T`.
        let cache = unsafe { Registration::<T>::of(sb) }.inode_cache();
        // SAFETY: As above; its inodes are of this cache.
        let inode = unsafe { cache.0.alloc(sb) };
        if !inode.is_null() {
            // SAFETY: A new object of the cache is ours alone.
            unsafe { (*Slot::<T>::of(inode)).initialised = false };
        }
        inode
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.free_inode`.
    pub(crate) unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        let slot = Slot::<T>::of(inode);
        // SAFETY: The VFS frees each inode once, after an RCU grace period, when nobody can
        // refer to it. A symbolic link's target was allocated by `NewInode::init`.
        unsafe {
            if u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
                bindings::kfree((*inode).__bindgen_anon_5.i_link.cast());
            }
            if (*slot).initialised {
                (*slot).data.assume_init_drop();
            }
            // The registration outlives its inodes (`rcu_barrier` in its drop), but the
            // superblock may be gone; the slab knows its cache.
            bindings::kfree(slot.cast());
        }
    }
}
