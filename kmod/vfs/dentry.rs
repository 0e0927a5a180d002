// SPDX-License-Identifier: GPL-2.0

//! Dentries (`struct dentry`) in lookup, and the operations of directory inodes.

use crate::{
    bindings,
    filesystem::FileSystem,
    inode::{Inode, NAME_MAX},
    stat, xattr,
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// `inode_operations` of the directories of `T`.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(crate) const DIRECTORY_INODE: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(stat::getattr),
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
            // SAFETY: The VFS passes a dentry in lookup: its name, of the length that it
            // says, does not change meanwhile.
            let name = unsafe {
                let name = &(*dentry).__bindgen_anon_1.d_name;
                let len = name.__bindgen_anon_1.__bindgen_anon_1.len;
                core::slice::from_raw_parts(name.name, len as usize)
            };
            if name.len() > NAME_MAX as usize {
                return Err(ENAMETOOLONG);
            }
            // SAFETY: The VFS passes a directory of `T`, held for the call.
            T::lookup(unsafe { Inode::from_raw(dir) }, name)
        };
        match lookup() {
            // An inode that is not there makes a negative dentry.
            Ok(inode) => {
                let inode = inode.map_or(core::ptr::null_mut(), |inode| inode.into_raw());
                // SAFETY: The dentry is in lookup; the call takes over our reference to the
                // inode, which `T::lookup` got from the superblock of `dir`: it is given no
                // other. A directory that would become its own ancestor is an `ELOOP`.
                unsafe { bindings::d_splice_alias(inode, dentry) }
            }
            Err(error) => error.to_ptr(),
        }
    }
}
