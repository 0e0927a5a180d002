// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and POSIX ACLs, and the operations of inodes that have nothing
//! else (`include/linux/xattr.h`, `include/linux/posix_acl_xattr.h`).

use crate::{bindings, fiemap, filesystem::FileSystem, inode::Inode, stat};
use core::marker::PhantomData;
use kernel::{
    error::{from_err_ptr, from_result},
    prelude::*,
};

const USER: &CStr = c"user.";
const TRUSTED: &CStr = c"trusted.";
const SECURITY: &CStr = c"security.";

/// The kinds of POSIX ACL, each a bit.
const ACLS: [c_uint; 2] = [bindings::ACL_TYPE_ACCESS, bindings::ACL_TYPE_DEFAULT];

/// The name of an ACL of that kind.
const fn acl_name(kind: c_uint) -> &'static CStr {
    if kind == bindings::ACL_TYPE_DEFAULT {
        c"system.posix_acl_default"
    } else {
        c"system.posix_acl_access"
    }
}

/// Takes the names of an inode's extended attributes (`listxattr(2)`). It passes on those that
/// `getxattr(2)` answers: who copies a file asks for each name that was listed, and overlayfs
/// gives up at the first that is refused.
pub struct XattrLister<'a> {
    /// Null when only the size is asked for.
    buffer: *mut c_char,
    size: usize,
    used: usize,
    /// Whether the inode may have names of the `user.` namespace.
    user: bool,
    /// Whether names of the `trusted.` namespace may be seen.
    trusted: bool,
    /// The kinds of ACL that were named.
    acls: c_uint,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl XattrLister<'_> {
    /// A lister for `inode`, as the current task may see it.
    ///
    /// # Safety
    ///
    /// The inode is valid; a buffer that is not null has `size` writable bytes for as long as the
    /// lister lives.
    unsafe fn new(inode: *const bindings::inode, buffer: *mut c_char, size: usize) -> Self {
        // SAFETY: By the caller; a type does not change.
        let file_type = u32::from(unsafe { (*inode).i_mode }) & bindings::S_IFMT;
        Self {
            buffer,
            size,
            used: 0,
            user: matches!(
                file_type,
                bindings::S_IFREG | bindings::S_IFDIR | bindings::S_IFSOCK
            ),
            // SAFETY: Only looks at the current task.
            trusted: unsafe { bindings::vfs_rs_capable_sys_admin() },
            acls: 0,
            _buffer: PhantomData,
        }
    }

    /// Adds a full name, if `getxattr(2)` answers it: what `xattr_resolve_name` and
    /// `xattr_permission` say (fs/xattr.c). Names of ACLs are added at the end, by `listxattr`.
    ///
    /// # Errors
    ///
    /// `ERANGE` when the caller's buffer is too small.
    pub fn add(&mut self, name: &[u8]) -> Result {
        let is_in = |namespace: &CStr| {
            let rest = name.strip_prefix(namespace.to_bytes());
            rest.is_some_and(|rest| !rest.is_empty())
        };
        let is_answered =
            is_in(USER) && self.user || is_in(TRUSTED) && self.trusted || is_in(SECURITY);
        if is_answered {
            return self.put(name);
        }
        if let Some(kind) = ACLS.iter().find(|kind| acl_name(**kind).to_bytes() == name) {
            self.acls |= kind;
        }
        Ok(())
    }

    fn put(&mut self, name: &[u8]) -> Result {
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
            // SAFETY: The VFS passes a positive dentry.
            let inode = unsafe { (*dentry).d_inode };
            // SAFETY: As above; the VFS passes `size` writable bytes.
            let mut lister = unsafe { XattrLister::new(inode, buffer, size) };
            // SAFETY: As above; the inode is of `T`.
            T::list_xattrs(unsafe { Inode::from_raw(inode) }, &mut lister)?;
            for kind in ACLS {
                // SAFETY: As above.
                if lister.acls & kind != 0 && unsafe { has_acl(inode, kind)? } {
                    lister.put(acl_name(kind).to_bytes())?;
                }
            }
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
        let kind = kind.unsigned_abs();
        // SAFETY: The VFS passes a valid inode, whose type does not change.
        let mode = u32::from(unsafe { (*inode).i_mode });
        if kind == bindings::ACL_TYPE_DEFAULT && mode & bindings::S_IFMT != bindings::S_IFDIR {
            // Only what is in a directory gets one, and overlayfs could copy it up to nothing else.
            return core::ptr::null_mut();
        }
        // SAFETY: The VFS passes an inode of `T`, held for the call.
        let acl = T::get_xattr(unsafe { Inode::from_raw(inode) }, acl_name(kind), |value| {
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

/// Whether the inode has an ACL of that kind, which the VFS then keeps with it. What is written as
/// one and is none counts as none here; `getxattr(2)` says what is wrong with it.
///
/// # Errors
///
/// What keeps us from knowing: `ENOMEM`, and those of [`FileSystem::get_xattr`].
///
/// # Safety
///
/// The inode is valid, and published.
unsafe fn has_acl(inode: *mut bindings::inode, kind: c_uint) -> Result<bool> {
    // SAFETY: By the caller. A symbolic link has no operation for it, and so no ACL.
    match from_err_ptr(unsafe { bindings::vfs_rs_get_inode_acl(inode, kind as c_int) }) {
        Ok(acl) => {
            // SAFETY: We own a reference, or it is null.
            unsafe { bindings::vfs_rs_posix_acl_release(acl) };
            Ok(!acl.is_null())
        }
        Err(EINVAL | EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The `s_xattr` of superblocks of `T`: a handler for each namespace. A name of none is
/// `EOPNOTSUPP` to the VFS, and ACLs do not come here.
pub(crate) struct Handlers<T>(PhantomData<T>);

/// A list of handlers, ended by null.
pub(crate) struct HandlerTable(pub(crate) [*const bindings::xattr_handler; 4]);

impl<T: FileSystem> Handlers<T> {
    const USER: bindings::xattr_handler = Self::of(USER);
    const TRUSTED: bindings::xattr_handler = Self::of(TRUSTED);
    const SECURITY: bindings::xattr_handler = Self::of(SECURITY);

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
