// SPDX-License-Identifier: GPL-2.0

//! Superblocks (`struct super_block`).

use crate::{
    bindings,
    context::Log,
    export,
    filesystem::{FileSystem, Registration},
    inode::{self, Cache, Iget, InodeRef, NewInode},
    lower::{self, LowerDirectory},
    private_cache::PrivateCache,
    shared_mapping::{self, SharedCaches},
    sysfs::SuperBlockDirectory,
    xattr,
};
use core::{cell::UnsafeCell, marker::PhantomData};
use kernel::{
    error::{from_err_ptr, from_result},
    prelude::*,
    seq_file::SeqFile,
    sync::Arc,
    types::Opaque,
};

/// A superblock that is being filled: it has no instance of the filesystem yet.
pub struct New;
/// A superblock with its instance.
pub struct Ready;

/// A superblock of `T`.
///
/// # Invariants
///
/// It is a valid one of a [`Registration<T>`]. Its `s_fs_info` is a `KBox<Info<T>>`, which
/// has an instance in the state [`Ready`].
#[repr(transparent)]
pub struct SuperBlock<T, S = Ready> {
    sb: Opaque<bindings::super_block>,
    _state: PhantomData<(T, S)>,
}

/// What `s_fs_info` points to, until the superblock cannot be found any more.
struct Info<T: FileSystem> {
    identity: T::Identity,
    /// Whether it was mounted with options for a security module (`context=` ...).
    has_lsm_options: bool,
    /// Set by `fill`, taken by `put_super`.
    instance: UnsafeCell<Option<Instance<T>>>,
    /// Set by `fill` last, taken by `put_super` first: who reads it looks at the instance.
    directory: UnsafeCell<Option<SuperBlockDirectory<T>>>,
}

/// What there is of a mounted filesystem. Fields are dropped in this order.
struct Instance<T> {
    data: Pin<KBox<T>>,
    metadata_cache: PrivateCache,
    shared_caches: Arc<SharedCaches>,
}

/// What `statfs(2)` reports of a filesystem; all of it is in use.
#[derive(Clone, Copy)]
pub struct Statfs {
    /// Size of all data, in bytes.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}

impl<T: FileSystem, S> SuperBlock<T, S> {
    /// # Safety
    ///
    /// `sb` is valid for `'a` and in the state `S`, as the invariants say.
    pub(crate) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By the caller; the type is transparent.
        unsafe { &*sb.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::super_block {
        self.sb.get()
    }

    /// The state that all instances of the filesystem share.
    pub fn shared(&self) -> &T::Shared {
        // SAFETY: By the invariants this is a superblock of `T`.
        unsafe { Registration::<T>::of(self.as_ptr()) }.shared()
    }

    /// What is mounted.
    pub fn identity(&self) -> &T::Identity {
        &self.info().identity
    }

    /// What the log calls it, and sysfs: `MAJOR:MINOR` of the device that `stat(2)` shows.
    pub(crate) fn id(&self) -> &CStr {
        // SAFETY: By the invariants; `fill` has set it, and it stays as it is.
        unsafe { CStr::from_char_ptr((&raw const (*self.as_ptr()).s_id).cast()) }
    }

    fn info(&self) -> &Info<T> {
        // SAFETY: By the invariants.
        unsafe { &*(*self.as_ptr()).s_fs_info.cast() }
    }
}

/// A mount that has no superblock yet.
///
/// # Invariants
///
/// `fs_type` is that of a [`Registration<T>`].
pub struct Mounting<'a, T> {
    fs_type: *mut bindings::file_system_type,
    /// What `s_stack_depth` is to be.
    depth: c_int,
    _context: PhantomData<&'a T>,
}

impl<T: FileSystem> Mounting<'_, T> {
    /// The state that all instances of the filesystem share.
    pub fn shared(&self) -> &T::Shared {
        // SAFETY: By the invariants. The context that this is borrowed from keeps the module.
        unsafe { Registration::<T>::of_type(self.fs_type) }.shared()
    }

    /// Declares that this filesystem reads files in the directory `path`, and gives the means to
    /// open them.
    ///
    /// On a filesystem whose data are on a device, in memory or on a server it is no level of its
    /// own, as EROFS over a file is none (`erofs_fc_fill_super`): so that two overlayfs may lie on
    /// it, as on that. On a filesystem that counts, it counts as one more. That it does not end
    /// up on itself is seen to by [`LowerDirectory`].
    ///
    /// # Errors
    ///
    /// `ELOOP` when the filesystem of `path` is one that this may not lie on, or at the stacking
    /// limit (`FILESYSTEM_MAX_STACK_DEPTH`).
    pub fn lower(&mut self, path: lower::Path) -> Result<LowerDirectory> {
        let directory = LowerDirectory::new(path, self.fs_type)?;
        let depth = match directory.depth() {
            0 => 0,
            depth => depth + 1,
        };
        if depth > bindings::FILESYSTEM_MAX_STACK_DEPTH as c_int {
            return Err(ELOOP);
        }
        self.depth = self.depth.max(depth);
        Ok(directory)
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// The instance of the filesystem.
    pub fn data(&self) -> &T {
        &self.instance().data
    }

    /// A page cache of this mount's own, for metadata.
    pub fn metadata_cache(&self) -> &PrivateCache {
        &self.instance().metadata_cache
    }

    /// The page caches that it may share with all superblocks of its type.
    pub fn shared_caches(&self) -> &Arc<SharedCaches> {
        &self.instance().shared_caches
    }

    fn instance(&self) -> &Instance<T> {
        // SAFETY: By the invariants there is one, which nobody changes while it is in use.
        unsafe { (*self.info().instance.get()).as_ref().unwrap_unchecked() }
    }

    /// The inode with number `ino`: the one in memory, or a new one to fill
    /// (`iget_locked`).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn iget(&self, ino: u64) -> Result<Iget<'_, T>> {
        // SAFETY: The superblock is valid and its inodes are allocated by `Operations::<T>`.
        let inode = unsafe { bindings::iget_locked(self.as_ptr(), ino) };
        let inode = core::ptr::NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: `iget_locked` gave us a reference to a valid inode; a new one is locked
        // and ours alone to fill.
        Ok(unsafe {
            if bindings::vfs_rs_inode_is_new(inode.as_ptr()) {
                Iget::New(NewInode::from_raw(inode))
            } else {
                Iget::Found(InodeRef::from_raw(inode))
            }
        })
    }
}

/// `super_operations` of `T`, `fill_super` and `kill_sb`.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    const TABLE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Cache::<T>::alloc_inode),
        free_inode: Some(Cache::<T>::free_inode),
        evict_inode: Some(shared_mapping::evict_inode),
        put_super: Some(Self::put_super),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        ..pin_init::zeroed()
    };

    /// Finds the superblock of `identity`, or makes it: `get_tree_nodev` with a test.
    ///
    /// One with options for a security module is never shared. The VFS applies these to the
    /// superblock, with an error when it has others already; of the modules only SELinux
    /// can say before whether they are the same (`security_sb_mnt_opts_compat`), and not of a
    /// superblock that is still being filled.
    ///
    /// # Errors
    ///
    /// `EBUSY` for one of another user namespace, `ENOMEM`, and those of `fill`.
    ///
    /// # Safety
    ///
    /// `context` is valid and locked, and of `T`.
    pub(crate) unsafe fn get_tree(
        context: *mut bindings::fs_context,
        identity: T::Identity,
    ) -> Result {
        // SAFETY: By the caller.
        let has_lsm_options = unsafe { !(*context).security.is_null() };
        let info = Info::<T> {
            identity,
            has_lsm_options,
            instance: UnsafeCell::new(None),
            directory: UnsafeCell::new(None),
        };
        let info = KBox::into_raw(KBox::new(info, GFP_KERNEL)?);
        // SAFETY: By the caller. A new superblock takes `s_fs_info` over, and then sets it to
        // null in the context; until it is killed, `test` may look at it.
        let result = unsafe {
            (*context).s_fs_info = info.cast();
            let result = Self::find_or_fill(context);
            if !core::mem::replace(&mut (*context).s_fs_info, core::ptr::null_mut()).is_null() {
                drop(KBox::from_raw(info));
            }
            result
        };
        // SAFETY: A superblock that is complete, to which we have an active reference.
        unsafe { (*context).root = bindings::vfs_rs_dget((*result?).s_root) };
        Ok(())
    }

    /// A superblock of what `s_fs_info` of the context stands for: with an active reference, and
    /// locked.
    ///
    /// # Errors
    ///
    /// As of `get_tree`.
    ///
    /// # Safety
    ///
    /// As of `get_tree`; `s_fs_info` of the context points to an `Info<T>`.
    unsafe fn find_or_fill(
        context: *mut bindings::fs_context,
    ) -> Result<*mut bindings::super_block> {
        // SAFETY: By the caller; the context outlives all of these, and keeps the module.
        let (log, info, fs_type, mounted) = unsafe {
            let info: &Info<T> = &*(*context).s_fs_info.cast();
            let fs_type = (*context).fs_type;
            let mounted = Registration::<T>::of_type(fs_type).mounted();
            (Log::from_raw(context), info, fs_type, mounted)
        };
        // Nothing is loaded for a superblock that is there. To look for one costs as much as to
        // make one, if there is none.
        let uuid = T::uuid(&info.identity);
        if mounted.may_have(&uuid) {
            // SAFETY: By the caller.
            let found =
                unsafe { bindings::sget_fc(context, Some(Self::test), Some(Self::set_none)) };
            match from_err_ptr(found) {
                Err(ENODATA) => {}
                found => return found,
            }
        }
        // INVARIANT: The context is one of `T`.
        let mut mounting = Mounting {
            fs_type,
            depth: 0,
            _context: PhantomData,
        };
        let unmounted = T::load(&info.identity, &mut mounting, &log)?;
        // SAFETY: By the caller. `sget_fc` gives an active reference, and holds `s_umount`: of a
        // new superblock, or of one that is complete.
        unsafe {
            let sb = from_err_ptr(bindings::sget_fc(
                context,
                Some(Self::test),
                Some(bindings::set_anon_super_fc),
            ))?;
            // Somebody else was faster.
            if !(*sb).s_root.is_null() {
                return Ok(sb);
            }
            mounted.add(&uuid);
            (*sb).s_stack_depth = mounting.depth;
            if let Err(error) = Self::fill(sb, context, unmounted) {
                bindings::deactivate_locked_super(sb);
                return Err(error);
            }
            (*sb).s_flags |= bindings::VFS_RS_SB_ACTIVE;
            Ok(sb)
        }
    }

    /// Has `sget_fc` make no superblock.
    ///
    /// # Safety
    ///
    /// Only to be called by `sget_fc`, as its `set`.
    unsafe extern "C" fn set_none(
        _: *mut bindings::super_block,
        _: *mut bindings::fs_context,
    ) -> c_int {
        ENODATA.to_errno()
    }

    /// # Safety
    ///
    /// Only to be called by `sget_fc`, as its `test`: under `sb_lock`.
    unsafe extern "C" fn test(
        sb: *mut bindings::super_block,
        context: *mut bindings::fs_context,
    ) -> c_int {
        // SAFETY: `sget_fc` passes superblocks of `T` that are not dead, so that `kill` did not
        // drop their info yet, and the context that `get_tree` gave it.
        let (old, new): (&Info<T>, &Info<T>) =
            unsafe { (&*(*sb).s_fs_info.cast(), &*(*context).s_fs_info.cast()) };
        // SAFETY: As above; a remount may change the flags at any time.
        let flags = unsafe { (&raw const (*sb).s_flags).read_volatile() };
        // SAFETY: As above; the context is locked.
        let differing = flags ^ unsafe { (*context).sb_flags } as c_ulong;
        let is_same = !old.has_lsm_options
            && !new.has_lsm_options
            && differing & bindings::VFS_RS_SB_SHOWN == 0
            && old.identity == new.identity;
        is_same.into()
    }

    /// Fills a new superblock.
    ///
    /// # Safety
    ///
    /// Only to be called by `get_tree`, with a superblock that only this call uses, and the
    /// valid context that it is made from.
    unsafe fn fill(
        sb: *mut bindings::super_block,
        context: *mut bindings::fs_context,
        unmounted: T::Unmounted,
    ) -> Result {
        // SAFETY: By the caller.
        let new = unsafe {
            (*sb).s_magic = T::MAGIC as c_ulong;
            (*sb).s_op = &Self::TABLE;
            (*sb).s_export_op = core::ptr::from_ref(&export::Operations::<T>::TABLE).cast();
            (*sb).s_xattr = xattr::Handlers::<T>::TABLE.0.as_ptr();
            (*sb).s_flags |= bindings::VFS_RS_SB_RDONLY
                | bindings::VFS_RS_SB_NOATIME
                | bindings::VFS_RS_SB_POSIXACL;
            (*sb).s_blocksize = kernel::page::PAGE_SIZE;
            (*sb).s_blocksize_bits = kernel::page::PAGE_SHIFT as u8;
            (*sb).s_maxbytes = bindings::VFS_RS_MAX_LFS_FILESIZE;
            (*sb).s_time_gran = 1;
            bindings::vfs_rs_set_id(sb);
            bindings::vfs_rs_set_sysfs_name(sb);
            let identity = SuperBlock::<T, New>::from_raw(sb).identity();
            if !T::has_devices(identity) {
                (*sb).s_iflags |= bindings::VFS_RS_SB_I_NODEV;
            }
            let uuid = T::uuid(identity);
            bindings::vfs_rs_set_uuid(sb, uuid.as_ptr(), uuid.len() as c_uint);
            Registration::<T>::of(sb).backing_dev().attach(sb);
            SuperBlock::<T, New>::from_raw(sb)
        };
        // SAFETY: The context outlives this call.
        let log = unsafe { Log::from_raw(context) };
        let data = T::fill_super(new, unmounted)?;
        let instance = Instance {
            data,
            // SAFETY: `drop_instance` drops the cache, not later than in `put_super`.
            metadata_cache: unsafe { PrivateCache::new(sb)? },
            // SAFETY: The registration stays while there are superblocks, and it is pinned.
            shared_caches: unsafe {
                let registration = Registration::<T>::of(sb);
                registration
                    .shared_mappings()
                    .enter(registration.backing_dev())?
            },
        };
        // SAFETY: As above: nobody else looks at the instance yet. INVARIANT: From here on
        // the superblock is `Ready`; should the rest fail, `kill` drops the instance.
        let ready = unsafe {
            *new.info().instance.get() = Some(instance);
            SuperBlock::<T>::from_raw(sb)
        };
        let root = T::root(ready, &log)?.into_raw();
        // SAFETY: `d_make_root` takes over our reference, on failure too.
        let root = unsafe { bindings::d_make_root(root) };
        if root.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: As above. `put_super` drops the directory before the instance; with a root
        // directory it is called even if this fails.
        unsafe {
            (*sb).s_root = root;
            let parent = Registration::<T>::of(sb).directory();
            *new.info().directory.get() = Some(SuperBlockDirectory::new(parent, sb)?);
        }
        Ok(())
    }

    /// Drops the instance of the filesystem, if there is one.
    ///
    /// # Safety
    ///
    /// The superblock is being killed: no one uses it, no inode looks at the instance.
    unsafe fn drop_instance(sb: *mut bindings::super_block) {
        // SAFETY: By the caller; `s_fs_info` stays until `kill` ends.
        let instance = unsafe { (*SuperBlock::<T>::from_raw(sb).info().instance.get()).take() };
        drop(instance);
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.put_super`.
    unsafe extern "C" fn put_super(sb: *mut bindings::super_block) {
        // SAFETY: All inodes are evicted by now but those that the instance itself holds, and
        // these must be gone when this returns. Nobody else looks at the directory's cell.
        unsafe {
            let info = SuperBlock::<T>::from_raw(sb).info();
            drop((*info.directory.get()).take());
            Self::drop_instance(sb);
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_system_type.kill_sb`.
    pub(crate) unsafe extern "C" fn kill(sb: *mut bindings::super_block) {
        // SAFETY: The VFS kills a superblock once, with no user left. Without a root
        // directory there was no `put_super`. `kill_anon_super` marks it as dead, after
        // which `test` does not look at it; it is null if `sget_fc` failed to set it up.
        unsafe {
            bindings::kill_anon_super(sb);
            if !(*sb).s_fs_info.is_null() {
                Self::drop_instance(sb);
                let info = core::mem::replace(&mut (*sb).s_fs_info, core::ptr::null_mut());
                let info = KBox::<Info<T>>::from_raw(info.cast());
                let uuid = T::uuid(&info.identity);
                Registration::<T>::of_type((*sb).s_type)
                    .mounted()
                    .remove(&uuid);
            }
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.statfs`.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buffer: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        let buffer: *mut bindings::kstatfs = buffer.cast();
        // SAFETY: The VFS passes a dentry of a `Ready` superblock of `T`, and a zeroed
        // `struct kstatfs`, which is opaque in `kernel::bindings`.
        from_result(|| unsafe {
            let sb = (*dentry).d_sb;
            let stat = T::statfs(SuperBlock::<T>::from_raw(sb))?;
            (*buffer).f_type = T::MAGIC as c_long;
            (*buffer).f_bsize = kernel::page::PAGE_SIZE as c_long;
            (*buffer).f_blocks = stat.bytes.div_ceil(kernel::page::PAGE_SIZE as u64);
            (*buffer).f_files = stat.inodes;
            (*buffer).f_namelen = inode::NAME_MAX as c_long;
            bindings::vfs_rs_statfs_id(buffer, sb);
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `super_operations.show_options`.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: The VFS passes a dentry of a `Ready` superblock of `T`, and a `seq_file`
        // that only this thread uses.
        unsafe {
            let sb = SuperBlock::<T>::from_raw((*root).d_sb);
            T::show_options(sb, SeqFile::from_raw(seq));
        }
        0
    }
}
