// SPDX-License-Identifier: GPL-2.0

//! Open files (`struct file`) and their operations.

use crate::{
    bindings,
    filesystem::FileSystem,
    inode::{DirEntryType, Inode},
};
use core::marker::PhantomData;
use kernel::{error::from_result, prelude::*, sync::Arc, types::ForeignOwnable};

/// Takes the entries of a directory (`struct dir_context`).
pub struct DirEmitter<'a>(&'a mut bindings::dir_context);

impl DirEmitter<'_> {
    /// The position of the first two entries, `.` and `..`, that the VFS crate emits.
    pub const FIRST: u64 = 2;

    /// The position of the next entry, [`DirEmitter::FIRST`] or more.
    pub fn position(&self) -> u64 {
        self.0.pos.try_into().unwrap_or(0)
    }

    /// Moves on to `position` without an entry.
    pub fn skip_to(&mut self, position: u64) {
        // A position that cannot be held ends the directory.
        self.0.pos = position.try_into().unwrap_or(i64::MAX);
    }

    /// Emits the entry at the current position, and moves to the next. Returns false,
    /// and stays, when the emitter is full.
    #[must_use]
    pub fn emit(&mut self, name: &[u8], ino: u64, kind: DirEntryType) -> bool {
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        // SAFETY: The context is valid, the name has `len` bytes.
        let more = unsafe {
            bindings::vfs_rs_dir_emit(self.0, name.as_ptr().cast(), len, ino, kind as c_uint)
        };
        if more {
            self.0.pos = self.0.pos.saturating_add(1);
        }
        more
    }
}

/// What a seek looks for (`lseek(2)`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// `file_operations` of `T`. `private_data` of an open regular file is an
/// `Arc<T::OpenFile>`, or null if [`FileSystem::kept`] has what it would be.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(crate) const DIRECTORY: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    pub(crate) const REGULAR: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        splice_read: Some(bindings::filemap_splice_read),
        mmap_prepare: Some(bindings::generic_file_readonly_mmap_prepare),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_operations.iterate_shared`.
    unsafe extern "C" fn iterate(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes an open directory of `T` and a context for this call.
            unsafe {
                if !bindings::vfs_rs_dir_emit_dots(file, context) {
                    return Ok(0);
                }
                let inode = Inode::<T>::from_raw(bindings::vfs_rs_file_inode(file));
                T::iterate(inode, &mut DirEmitter(&mut *context))?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_operations.open`.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a regular file's inode of `T`, held for the call.
            let this = unsafe { Inode::from_raw(inode) };
            if T::kept(this).is_none() {
                if let Some(open) = T::open(this)? {
                    // SAFETY: A file that is being opened is not shared yet, and null there.
                    unsafe { (*file).private_data = open.into_foreign() };
                }
            }
            // It may be another one only now.
            // SAFETY: As above. The inode keeps its mapping from here on, and the file the inode.
            unsafe { (*file).f_mapping = bindings::vfs_rs_inode_mapping(inode) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_operations.release`.
    unsafe extern "C" fn release(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The VFS releases a file once, with no user left; `private_data` is null or
        // what `open` set.
        unsafe {
            let open = (*file).private_data;
            if !open.is_null() {
                T::release(Inode::from_raw(inode), Arc::from_foreign(open));
            }
        }
        0
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_operations.read_iter`.
    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: As of this function.
        let (copied, result) = unsafe { Self::copy_shared(iocb, iter) };
        let read = match result {
            Ok(true) => 0,
            // SAFETY: As of this function.
            Ok(false) => unsafe { bindings::generic_file_read_iter(iocb, iter) },
            Err(error) => error.to_errno() as isize,
        };
        match copied.try_into() {
            Ok(0) | Err(_) => read,
            Ok(copied) => read.max(0).saturating_add(copied),
        }
    }

    /// Reads what lies in page caches of several files. Returns how many bytes that were, and
    /// whether they are all that there is to read.
    ///
    /// # Safety
    ///
    /// As of [`Self::read_iter`].
    unsafe fn copy_shared(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> (usize, Result<bool>) {
        // SAFETY: The VFS passes the control block of a read from an open regular file of `T`,
        // and where to, for this call.
        let (iocb, inode, mapping) = unsafe {
            let file = (*iocb).ki_filp;
            if (*iocb).ki_flags & bindings::VFS_RS_IOCB_NOT_PLAIN != 0 {
                return (0, Ok(false));
            }
            let inode = Inode::<T>::from_raw(bindings::vfs_rs_file_inode(file));
            (&mut *iocb, inode, (*file).f_mapping)
        };
        let Ok(position) = u64::try_from(iocb.ki_pos) else {
            return (0, Ok(false));
        };
        let left = inode.size().saturating_sub(position);
        // Whoever reads a file reads its end, too: nothing has to be looked at for that.
        if left == 0 {
            return (0, Ok(true));
        }
        // SAFETY: As above.
        let (opened, wanted) = unsafe {
            if bindings::vfs_rs_mapping_has_pages(mapping) {
                return (0, Ok(false));
            }
            let opened = Self::open_file(iocb.ki_filp, mapping);
            (opened, bindings::vfs_rs_iter_count(iter))
        };
        let Some((_, open)) = opened else {
            return (0, Ok(false));
        };
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
        if len == 0 {
            return (0, Ok(true));
        }
        let mut copied = 0;
        let result = T::copy_shared(inode, open, position, len, |bytes| {
            // SAFETY: As above; the bytes are borrowed.
            let now = unsafe { bindings::_copy_to_iter(bytes.as_ptr().cast(), bytes.len(), iter) };
            copied += now;
            if now < bytes.len() {
                return Err(EFAULT);
            }
            Ok(())
        });
        iocb.ki_pos = iocb.ki_pos.saturating_add_unsigned(copied as u64);
        (copied, result)
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_operations.llseek`.
    unsafe extern "C" fn llseek(file: *mut bindings::file, offset: i64, whence: c_int) -> i64 {
        const SEEK_DATA: c_int = bindings::SEEK_DATA as c_int;
        const SEEK_HOLE: c_int = bindings::SEEK_HOLE as c_int;

        let what = match whence {
            SEEK_DATA => SeekTo::Data,
            SEEK_HOLE => SeekTo::Hole,
            // SAFETY: As of this function.
            _ => return unsafe { bindings::generic_file_llseek(file, offset, whence) },
        };
        let seek = || {
            // SAFETY: The VFS passes an open regular file of `T`.
            let (inode, open) = unsafe { Self::open_file(file, (*file).f_mapping) }.ok_or(EIO)?;
            let position = u64::try_from(offset).map_err(|_| ENXIO)?;
            if position >= inode.size() {
                return Err(ENXIO);
            }
            let position = T::seek(inode, open, position, what)?;
            i64::try_from(position).map_err(|_| EOVERFLOW)
        };
        match seek() {
            // SAFETY: The file is valid; its position is locked by the caller.
            Ok(position) => unsafe { bindings::vfs_setpos(file, position, i64::MAX) },
            Err(error) => error.to_errno().into(),
        }
    }

    /// The inode and the data of `file`, through which the page cache asks for what is in
    /// `mapping`; none if that is no file of `T` with this page cache: what reaches the page
    /// cache operations through a stacked filesystem may be something else, or null.
    ///
    /// # Safety
    ///
    /// `file` is null or valid for `'a`; `mapping` is one that a regular file of `T` has.
    pub(crate) unsafe fn open_file<'a>(
        file: *mut bindings::file,
        mapping: *mut bindings::address_space,
    ) -> Option<(&'a Inode<T>, &'a T::OpenFile)> {
        // SAFETY: By the caller. The host of the mapping is a regular file's inode of `T`, or
        // one that shares its page cache with some and has their operations. A file with
        // these operations is one of `T`, and so is its inode.
        let (inode, open) = unsafe {
            let inode = (!file.is_null()).then(|| bindings::vfs_rs_file_inode(file))?;
            let is_of_type = (*file).f_op == (*(*mapping).host).__bindgen_anon_3.i_fop;
            if !is_of_type || bindings::vfs_rs_inode_mapping(inode) != mapping {
                return None;
            }
            (Inode::from_raw(inode), (*file).private_data)
        };
        if open.is_null() {
            return Some((inode, T::kept(inode)?));
        }
        // SAFETY: By the caller; it has passed `open`, which stored an `Arc`, and the file
        // keeps that as long as it is valid itself.
        unsafe {
            let open = <Arc<T::OpenFile> as ForeignOwnable>::borrow(open);
            Some((inode, &*core::ptr::from_ref(&*open)))
        }
    }
}
