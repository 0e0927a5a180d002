// SPDX-License-Identifier: GPL-2.0

//! Dentries (`struct dentry`) and the operations of directory inodes.

use crate::{bindings, filesystem::FileSystem, inode::Inode, xattr};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque,
};

/// A dentry of `T`, reference-counted.
#[repr(transparent)]
pub struct Dentry<T: FileSystem>(Opaque<bindings::dentry>, PhantomData<T>);

// SAFETY: `dget` and `dput` count references.
unsafe impl<T: FileSystem> AlwaysRefCounted for Dentry<T> {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero.
        unsafe { bindings::vfs_rs_dget(self.0.get()) };
    }

    unsafe fn dec_ref(dentry: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::dput(dentry.cast().as_ptr()) };
    }
}

/// The dentry of a name that is being looked up. Only [`Unhashed::splice_alias`] uses it
/// up: a lookup cannot both answer and go on.
///
/// # Invariants
///
/// A valid dentry in lookup: its name and parent do not change for `'a`.
pub struct Unhashed<'a, T: FileSystem>(NonNull<bindings::dentry>, PhantomData<(&'a (), T)>);

impl<T: FileSystem> Unhashed<'_, T> {
    /// The name that is looked up.
    pub fn name(&self) -> &[u8] {
        // SAFETY: By the invariants the name is stable; it has the length that it says.
        unsafe {
            let name = &(*self.0.as_ptr()).__bindgen_anon_1.d_name;
            let len = name.__bindgen_anon_1.__bindgen_anon_1.len;
            core::slice::from_raw_parts(name.name, len as usize)
        }
    }

    /// Answers the lookup with `inode`, or with none: a negative dentry
    /// (`d_splice_alias`). Returns the dentry to use when it is another one.
    ///
    /// # Errors
    ///
    /// `ELOOP` when a directory would become its own ancestor.
    pub fn splice_alias(self, inode: Option<ARef<Inode<T>>>) -> Result<Option<ARef<Dentry<T>>>> {
        let inode = inode.map_or(core::ptr::null_mut(), |inode| {
            ARef::into_raw(inode).as_ptr().cast()
        });
        // SAFETY: By the invariants; the call takes over our reference to the inode.
        let dentry = from_err_ptr(unsafe { bindings::d_splice_alias(inode, self.0.as_ptr()) })?;
        // SAFETY: A dentry that is returned comes with a reference.
        Ok(NonNull::new(dentry).map(|dentry| unsafe { ARef::from_raw(dentry.cast()) }))
    }
}

/// `inode_operations` of the directories of `T`.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(crate) const DIRECTORY_INODE: bindings::inode_operations = bindings::inode_operations {
        lookup: Some(Self::lookup),
        listxattr: Some(xattr::Operations::<T>::listxattr),
        get_inode_acl: Some(xattr::Operations::<T>::get_inode_acl),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only to be called by the VFS, as `inode_operations.lookup`.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: c_uint,
    ) -> *mut bindings::dentry {
        let lookup = || {
            let dentry = Unhashed(NonNull::new(dentry).ok_or(EINVAL)?, PhantomData);
            if dentry.name().len() > crate::inode::NAME_MAX as usize {
                return Err(ENAMETOOLONG);
            }
            // SAFETY: The VFS passes a directory of `T`, held for the call.
            T::lookup(unsafe { Inode::from_raw(dir) }, dentry)
        };
        match lookup() {
            Ok(Some(dentry)) => ARef::into_raw(dentry).as_ptr().cast(),
            Ok(None) => core::ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }
}
