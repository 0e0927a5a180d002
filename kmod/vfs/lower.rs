// SPDX-License-Identifier: GPL-2.0

//! Files of other filesystems that a filesystem reads.
//!
//! They are read through the VFS with the credentials of whoever opened them, so that
//! `rw_verify_area` and with it security modules and fanotify have their say.

use crate::{bindings, credentials::Override, task::killed};
use kernel::{
    error::{from_err_ptr, to_result},
    fs::File,
    page::PAGE_SHIFT,
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef,
};

pub use crate::credentials::Credentials;

/// A path, pinned (`struct path`).
///
/// # Invariants
///
/// Holds a reference to its mount and to its dentry, which is positive.
pub struct Path(bindings::path);

// SAFETY: References to mounts and dentries may be used and dropped by any thread.
unsafe impl Send for Path {}
// SAFETY: As above; nothing changes through a shared reference.
unsafe impl Sync for Path {}

impl Clone for Path {
    fn clone(&self) -> Self {
        // SAFETY: By the invariants.
        unsafe { bindings::path_get(&self.0) };
        // INVARIANT: The copy has references of its own.
        Self(self.0)
    }
}

/// Whether both are the same directory by the same mount: another mount may map owners in
/// another way, and who holds one keeps that from going.
impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        (self.0.mnt, self.0.dentry) == (other.0.mnt, other.0.dentry)
    }
}

impl Path {
    /// The directory `name`, from `dirfd` on, that a mount option leads to, as the current
    /// task sees it (`fs_lookup_param`).
    ///
    /// # Errors
    ///
    /// Those of a path walk, explained in the log of the context.
    ///
    /// # Safety
    ///
    /// `context` is valid, and the parameter has a key.
    pub(crate) unsafe fn of_option(
        context: *mut bindings::fs_context,
        mut parameter: bindings::fs_parameter,
        dirfd: c_int,
        name: &CStr,
    ) -> Result<Self> {
        let mut path = pin_init::zeroed();
        let flags = bindings::VFS_RS_LOOKUP_FOLLOW | bindings::VFS_RS_LOOKUP_DIRECTORY;
        parameter.set_type(bindings::fs_value_type_fs_value_is_filename);
        parameter.dirfd = dirfd;
        // SAFETY: By the caller; `name` is a C string, of which `getname_kernel` makes a copy
        // that is ours; `path` is writable.
        to_result(unsafe {
            let name = from_err_ptr(bindings::getname_kernel(name.as_char_ptr()))?;
            parameter.__bindgen_anon_1.name = name;
            let error = bindings::fs_lookup_param(context, &mut parameter, false, flags, &mut path);
            bindings::putname(name);
            error
        })?;
        // INVARIANT: On success both are referenced; only positive dentries are found.
        Ok(Self(path))
    }

    /// Shows the path, with octal escapes for `escape` (`seq_path`).
    pub fn show(&self, seq: &SeqFile, escape: &CStr) {
        // SAFETY: By the invariants; `SeqFile` is transparent.
        unsafe {
            bindings::seq_path(
                core::ptr::from_ref(seq).cast_mut().cast(),
                &self.0,
                escape.as_char_ptr(),
            )
        };
    }

    /// Whether both lead to the same directory, by whatever mounts.
    pub fn is_same_directory(&self, other: &Self) -> bool {
        self.0.dentry == other.0.dentry
    }

    /// Tells the filesystem that the path is on from others, as long as any clone of it is there.
    pub fn filesystem(&self) -> usize {
        self.super_block().addr()
    }

    /// The superblock that the path is on.
    pub(crate) fn super_block(&self) -> *const bindings::super_block {
        // SAFETY: By the invariants.
        unsafe { (*self.0.dentry).d_sb }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::path_put(&self.0) };
    }
}

/// The level of a filesystem, now: FUSE sets its own when the server has answered.
///
/// # Safety
///
/// `sb` is valid.
unsafe fn depth_of(sb: *const bindings::super_block) -> c_int {
    // SAFETY: By the caller.
    unsafe { (&raw const (*sb).s_stack_depth).read_volatile() }
}

/// A directory with the files that a filesystem reads ([`crate::Mounting::lower`]).
///
/// None of them lies on a filesystem of that same type, nor on one by which it could be below
/// itself: EROFS over a file takes one on any filesystem that does not count as a level, and
/// what counts may read whatever it likes. Only through overlayfs it can be seen what that is.
/// A loop device reads with a task of its own, so that nothing is stacked there.
pub struct LowerDirectory {
    path: Path,
    /// The level of its filesystem (`s_stack_depth`) when this one was put on top.
    depth: c_int,
    /// Where the type of the filesystem above is; only to be compared.
    above: usize,
}

impl LowerDirectory {
    /// # Errors
    ///
    /// `ELOOP` when the filesystem of `path` is one that one of type `above` may not lie on.
    pub(crate) fn new(path: Path, above: *const bindings::file_system_type) -> Result<Self> {
        // SAFETY: A path has a superblock.
        let depth = unsafe { depth_of(path.super_block()) };
        let above = above.addr();
        let this = Self { path, depth, above };
        // SAFETY: As above.
        if unsafe { this.nests_on(this.path.super_block()) } {
            return Err(ELOOP);
        }
        Ok(this)
    }

    /// The level of its filesystem.
    pub(crate) fn depth(&self) -> c_int {
        self.depth
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether files of `below` must not be read.
    ///
    /// # Safety
    ///
    /// `below` is valid.
    unsafe fn nests_on(&self, below: *const bindings::super_block) -> bool {
        // SAFETY: By the caller; neither type, magic number nor device of a superblock change.
        unsafe {
            let (magic, depth) = ((*below).s_magic, depth_of(below));
            let reads_a_file =
                magic == bindings::EROFS_SUPER_MAGIC_V1 as c_ulong && (*below).s_bdev.is_null();
            let is_opaque = depth > 0 && magic != bindings::OVERLAYFS_SUPER_MAGIC as c_ulong;
            (*below).s_type.addr() == self.above || reads_a_file || is_opaque
        }
    }

    /// Opens the regular file `name` in this directory for reading, with `credentials`.
    /// A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// Those of a path walk and of opening; `EINVAL` when it is not a regular file, `EXDEV`
    /// when something is mounted there, `ELOOP` when it lies on a filesystem that the one
    /// above may not lie on.
    pub fn open(&self, name: &CStr, credentials: &Credentials) -> Result<LowerFile> {
        let _override = Override::new(credentials.get());
        let mut path = pin_init::zeroed();
        // Something mounted there could be this filesystem itself.
        let flags = bindings::VFS_RS_LOOKUP_NO_XDEV;
        // SAFETY: By the invariants; `name` is a C string, `path` is writable.
        to_result(unsafe {
            let (dentry, mnt) = (self.path.0.dentry, self.path.0.mnt);
            bindings::vfs_path_lookup(dentry, mnt, name.as_char_ptr(), flags, &mut path)
        })?;
        // INVARIANT: As in `Path::of_option`.
        let path = Path(path);
        // Before it is opened: opening a fifo or a device has effects.
        // SAFETY: By the invariants the dentry is positive; a type does not change.
        let mode = unsafe { (*bindings::vfs_rs_path_inode(&path.0)).i_mode };
        if u32::from(mode) & bindings::S_IFMT != bindings::S_IFREG {
            return Err(EINVAL);
        }
        // `kernel_file_open` leaves the permission checks of open(2) to its caller.
        // SAFETY: By the invariants.
        let (readable, owned) = unsafe {
            (
                bindings::vfs_rs_path_readable(&path.0),
                bindings::vfs_rs_path_owned(&path.0),
            )
        };
        if !readable {
            return Err(EACCES);
        }
        let mut flags = bindings::O_RDONLY | bindings::O_LARGEFILE;
        if owned {
            flags |= bindings::O_NOATIME;
        }
        // SAFETY: Path and credentials are valid; the file takes references of its own.
        let file = from_err_ptr(unsafe {
            bindings::kernel_file_open(&path.0, flags as c_int, credentials.get().as_ptr())
        })?;
        let file = core::ptr::NonNull::new(file).ok_or(EIO)?;
        // SAFETY: The file is ours alone, and its readahead state with it.
        unsafe { bindings::vfs_rs_bound_readahead(file.as_ptr(), READAHEAD_PAGES) };
        // SAFETY: We own the reference; the file is in no file table, so nobody uses
        // `fdget_pos` on it.
        let file = LowerFile(unsafe { ARef::from_raw(file.cast()) });
        // SAFETY: It is open, and the path has a superblock.
        unsafe {
            let is_raised = depth_of(self.path.super_block()) != self.depth;
            if is_raised || self.nests_on(bindings::vfs_rs_file_real_super(file.0.as_ptr())) {
                return Err(ELOOP);
            }
        }
        Ok(file)
    }
}

/// What tells a file from all others that are open, and from what it was before it was changed:
/// where its inode is in memory, and its `ctime` in seconds and nanoseconds. Numbers alone do
/// not: files of two layers of an overlayfs, or of two subvolumes of a btrfs, can have the same.
/// The others (device, inode number, generation) are for those that were open before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId([u64; 6]);

impl FileId {
    /// These numbers.
    pub fn numbers(&self) -> [u64; 6] {
        self.0
    }
}

/// How much is read between two looks for a fatal signal, in bytes.
const KILLABLE_BYTES: usize = 1 << 20;

/// What the filesystem below may read ahead at once, in pages (`file_ra_state.ra_pages`): 16 MiB,
/// far more than it does unless somebody has told it to (`read_ahead_kb`).
const READAHEAD_PAGES: c_uint = (16 << 20) >> PAGE_SHIFT;

/// A regular file of another filesystem, open for reading.
pub struct LowerFile(ARef<File>);

impl LowerFile {
    /// How far behind its end a read may bring something into the page cache of the filesystem
    /// below, in bytes. There is a window ahead of the one that is being read, and none is larger
    /// than what may be read ahead or than the request (`page_cache_async_ra`), which is no larger
    /// than [`KILLABLE_BYTES`]. That leaves room for a filesystem that makes small windows larger
    /// (`readahead_expand`: btrfs to 128 KiB).
    pub fn ahead_bytes(&self) -> u64 {
        // SAFETY: It is open. `ra_pages` is set when it is opened, and changed by posix_fadvise(2)
        // only, which nobody calls for this `struct file`.
        let pages = unsafe { bindings::vfs_rs_readahead(self.0.as_ptr()) };
        let window = (u64::from(pages) << PAGE_SHIFT).max(KILLABLE_BYTES as u64);
        window.saturating_mul(2)
    }

    /// The open file.
    pub(crate) fn as_ptr(&self) -> *mut bindings::file {
        self.0.as_ptr()
    }

    /// The size in bytes, now.
    pub fn size(&self) -> u64 {
        // SAFETY: An open file has an inode.
        unsafe { bindings::vfs_rs_inode_size(bindings::vfs_rs_file_inode(self.0.as_ptr())) }
            .try_into()
            .unwrap_or(0)
    }

    /// What tells it from other files, as long as it is open.
    pub fn id(&self) -> FileId {
        // SAFETY: An open file has an inode, which has a superblock.
        FileId(unsafe {
            let inode = bindings::vfs_rs_file_inode(self.0.as_ptr());
            [
                inode.addr() as u64,
                (*(*inode).i_sb).s_dev.into(),
                (*inode).i_ino,
                (*inode).i_generation.into(),
                bindings::vfs_rs_inode_ctime_sec(inode),
                bindings::vfs_rs_inode_ctime_nsec(inode).into(),
            ]
        })
    }

    /// Whether the page cache of the filesystem below has any of `len` bytes from `position` on.
    pub fn has_cached(&self, position: u64, len: u64) -> bool {
        let last = position.saturating_add(len).saturating_sub(1);
        let (Ok(first), Ok(last)) = (i64::try_from(position), i64::try_from(last)) else {
            return false;
        };
        // SAFETY: An open file has a mapping.
        unsafe { bindings::filemap_range_has_page((*self.0.as_ptr()).f_mapping, first, last) }
    }

    /// Drops `len` bytes from `position` on from the page cache of the filesystem below,
    /// as far as they are whole folios that nobody is using.
    pub fn forget(&self, position: u64, len: u64) {
        let last = position.saturating_add(len).saturating_sub(1);
        let page = |position: u64| usize::try_from(position >> PAGE_SHIFT);
        if let (Ok(first), Ok(last)) = (page(position), page(last)) {
            // SAFETY: An open file has a mapping.
            unsafe {
                bindings::invalidate_mapping_pages((*self.0.as_ptr()).f_mapping, first, last)
            };
        }
    }

    /// Reads from `position` until `buffer` is full (`kernel_read`).
    ///
    /// # Errors
    ///
    /// `EIO` when the file ends before, `EINTR` when the task was killed, and those of the
    /// filesystem below.
    pub fn read_exact(&self, mut buffer: &mut [u8], position: u64) -> Result {
        let _override = Override::new(self.0.cred());
        let mut position = i64::try_from(position).map_err(|_| EOVERFLOW)?;
        while !buffer.is_empty() {
            let len = buffer.len().min(KILLABLE_BYTES);
            // SAFETY: The file is open for reading; the buffer is writable for that length.
            let count = unsafe {
                bindings::kernel_read(
                    self.0.as_ptr(),
                    buffer.as_mut_ptr().cast(),
                    len,
                    &mut position,
                )
            };
            match usize::try_from(count) {
                Ok(0) => return Err(EIO),
                Ok(count) => buffer = buffer.get_mut(count..).ok_or(EIO)?,
                // An errno fits by far.
                Err(_) => return Err(Error::from_errno(count as c_int)),
            }
            if !buffer.is_empty() && killed() {
                return Err(EINTR);
            }
        }
        Ok(())
    }
}
