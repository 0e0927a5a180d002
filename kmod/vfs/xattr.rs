// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and POSIX ACLs, and the operations of inodes that have nothing
//! else (`include/linux/xattr.h`, `include/linux/posix_acl_xattr.h`).

use crate::{bindings, fiemap, filesystem::FileSystem, inode::Inode, stat};
use core::marker::PhantomData;
use kernel::{error::from_result, prelude::*};

/// Takes the names of an inode's extended attributes (`listxattr(2)`).
pub struct XattrLister<'a> {
    /// Null when only the size is asked for.
    buffer: *mut c_char,
    size: usize,
    used: usize,
    /// Whether names of the `trusted.` namespace may be seen.
    trusted: bool,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl XattrLister<'_> {
    /// Adds a full name.
    ///
    /// # Errors
    ///
    /// `ERANGE` when the caller's buffer is too small.
    pub fn add(&mut self, name: &[u8]) -> Result {
        if name.starts_with(b"trusted.") && !self.trusted {
            return Ok(());
        }
        let end = self
            .used
            .checked_add(name.len())
            .and_then(|n| n.checked_add(1));
        let end = end.ok_or(ERANGE)?;
        if !self.buffer.is_null() {
            if end > self.size {
                return Err(ERANGE);
            }
            // SAFETY: The buffer has `size` writable bytes, and `used + len + 1 <= size`.
            unsafe {
                let to = self.buffer.add(self.used).cast::<u8>();
                core::ptr::copy_nonoverlapping(name.as_ptr(), to, name.len());
                to.add(name.len()).write(0);
            }
        }
        self.used = end;
        Ok(())
    }
}

/// `inode_operations` of everything that is not a directory.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(crate) const INODE: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(stat::getattr),
        listxattr: Some(Self::listxattr),
        get_inode_acl: Some(Self::get_inode_acl),
        ..pin_init::zeroed()
    };

    pub(crate) const REGULAR_INODE: bindings::inode_operations = bindings::inode_operations {
        fiemap: Some(fiemap::fiemap::<T>),
        ..Self::INODE
    };

    pub(crate) const SYMLINK_INODE: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(stat::getattr),
        get_link: Some(bindings::simple_get_link),
        listxattr: Some(Self::listxattr),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only to be called by the VFS, as `inode_operations.listxattr`.
    pub(crate) unsafe extern "C" fn listxattr(
        dentry: *mut bindings::dentry,
        buffer: *mut c_char,
        size: usize,
    ) -> isize {
        let list = || {
            let mut lister = XattrLister {
                buffer,
                size,
                used: 0,
                // SAFETY: Only looks at the current task.
                trusted: unsafe { bindings::vfs_rs_capable_sys_admin() },
                _buffer: PhantomData,
            };
            // SAFETY: The VFS passes a positive dentry of `T`, and `size` writable bytes.
            T::list_xattrs(unsafe { Inode::from_raw((*dentry).d_inode) }, &mut lister)?;
            isize::try_from(lister.used).map_err(|_| E2BIG)
        };
        list().unwrap_or_else(|error: Error| error.to_errno() as isize)
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `inode_operations.get_inode_acl`.
    pub(crate) unsafe extern "C" fn get_inode_acl(
        inode: *mut bindings::inode,
        kind: c_int,
        rcu: bool,
    ) -> *mut bindings::posix_acl {
        if rcu {
            // The ACL is allocated, which a walk under RCU cannot do.
            return ECHILD.to_ptr();
        }
        let name = if kind == bindings::ACL_TYPE_DEFAULT as c_int {
            c"system.posix_acl_default"
        } else {
            c"system.posix_acl_access"
        };
        // SAFETY: The VFS passes an inode of `T`, held for the call.
        let acl = T::get_xattr(unsafe { Inode::from_raw(inode) }, name, |value| {
            // SAFETY: An inode has a superblock, that a user namespace; the value is
            // readable for its length. Returns an error pointer on failure.
            Ok(unsafe {
                bindings::vfs_rs_posix_acl_from_xattr(
                    (*(*inode).i_sb).s_user_ns,
                    value.as_ptr().cast(),
                    value.len(),
                )
            })
        });
        match acl {
            Ok(acl) => acl,
            Err(ENODATA) => core::ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }
}

/// The `s_xattr` of superblocks of `T`: a handler for each namespace. A name of none is
/// `EOPNOTSUPP` to the VFS, and ACLs do not come here.
pub(crate) struct Handlers<T>(PhantomData<T>);

/// A list of handlers, ended by null.
pub(crate) struct HandlerTable(pub(crate) [*const bindings::xattr_handler; 4]);

impl<T: FileSystem> Handlers<T> {
    const USER: bindings::xattr_handler = Self::of(c"user.");
    const TRUSTED: bindings::xattr_handler = Self::of(c"trusted.");
    const SECURITY: bindings::xattr_handler = Self::of(c"security.");

    pub(crate) const TABLE: &'static HandlerTable = &HandlerTable([
        &Self::USER,
        &Self::TRUSTED,
        &Self::SECURITY,
        core::ptr::null(),
    ]);

    const fn of(prefix: &'static CStr) -> bindings::xattr_handler {
        bindings::xattr_handler {
            prefix: kernel::str::as_char_ptr_in_const_context(prefix),
            get: Some(Self::get),
            ..pin_init::zeroed()
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `xattr_handler.get`.
    unsafe extern "C" fn get(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes an inode of `T`, and what follows the prefix of the
            // handler in a C string: the full name is before and in that.
            let (inode, name) = unsafe {
                let name = bindings::xattr_full_name(handler, name);
                (Inode::<T>::from_raw(inode), CStr::from_char_ptr(name))
            };
            T::get_xattr(inode, name, |value| {
                let len = c_int::try_from(value.len()).map_err(|_| E2BIG)?;
                if size > 0 {
                    if value.len() > size {
                        return Err(ERANGE);
                    }
                    // SAFETY: The VFS passes a buffer of `size` writable bytes.
                    unsafe {
                        core::ptr::copy_nonoverlapping(value.as_ptr(), buffer.cast(), value.len())
                    };
                }
                Ok(len)
            })
        })
    }
}
