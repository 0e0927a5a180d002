// SPDX-License-Identifier: GPL-2.0

//! File handles, for `open_by_handle_at(2)`, the NFS server and overlayfs
//! (`include/linux/exportfs.h`).

use crate::{
    bindings,
    filesystem::FileSystem,
    inode::{Inode, InodeRef},
    super_block::SuperBlock,
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// Numbers of 32 bits in a handle of one inode: its number and its generation.
const WORDS: usize = 3;

/// `export_operations` of `T`: handles of inode numbers of 64 bits.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(crate) const TABLE: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only to be called by the VFS, as `export_operations.encode_fh`.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        handle: *mut u32,
        max_words: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        let (kind, words) = if parent.is_null() {
            (bindings::VFS_RS_FILEID_INO64_GEN, WORDS)
        } else {
            (bindings::VFS_RS_FILEID_INO64_GEN_PARENT, 2 * WORDS)
        };
        // SAFETY: The VFS passes inodes of `T`, and room for `max_words` numbers.
        unsafe {
            let room = usize::try_from(*max_words).unwrap_or(0);
            *max_words = words as c_int;
            if room < words {
                return bindings::VFS_RS_FILEID_INVALID as c_int;
            }
            let handle = core::slice::from_raw_parts_mut(handle, words);
            let inodes = [inode, parent];
            for (part, inode) in handle.chunks_exact_mut(WORDS).zip(inodes) {
                let ino = (*inode).i_ino;
                part.copy_from_slice(&[ino as u32, (ino >> 32) as u32, (*inode).i_generation]);
            }
        }
        kind as c_int
    }

    /// The dentry of the inode that part `part` of a handle stands for.
    ///
    /// # Safety
    ///
    /// `sb` is a `Ready` superblock of `T`, `handle` has `words` numbers.
    unsafe fn decode(
        sb: *mut bindings::super_block,
        handle: *mut bindings::fid,
        words: c_int,
        part: usize,
    ) -> *mut bindings::dentry {
        let find = || {
            let words = usize::try_from(words).unwrap_or(0);
            // SAFETY: By the caller.
            let (sb, handle) = unsafe {
                (
                    SuperBlock::<T>::from_raw(sb),
                    core::slice::from_raw_parts(handle.cast::<u32>(), words),
                )
            };
            let part = handle.chunks_exact(WORDS).nth(part).ok_or(ESTALE)?;
            let [low, high, generation] = *part else {
                return Err(ESTALE);
            };
            let inode = T::inode(sb, u64::from(low) | (u64::from(high) << 32))?;
            if inode.generation() != generation {
                return Err(ESTALE);
            }
            Ok(inode)
        };
        Self::alias(find())
    }

    fn alias(inode: Result<InodeRef<'_, T>>) -> *mut bindings::dentry {
        match inode {
            // SAFETY: Takes over our reference, on failure too.
            Ok(inode) => unsafe { bindings::d_obtain_alias(inode.into_raw()) },
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `export_operations.fh_to_dentry`.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        handle: *mut bindings::fid,
        words: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        match kind as u32 {
            // SAFETY: The VFS passes a superblock of `T` and a handle of that many words.
            bindings::VFS_RS_FILEID_INO64_GEN | bindings::VFS_RS_FILEID_INO64_GEN_PARENT => unsafe {
                Self::decode(sb, handle, words, 0)
            },
            _ => core::ptr::null_mut(),
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `export_operations.fh_to_parent`.
    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        handle: *mut bindings::fid,
        words: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        match kind as u32 {
            // SAFETY: As in `fh_to_dentry`.
            bindings::VFS_RS_FILEID_INO64_GEN_PARENT => unsafe {
                Self::decode(sb, handle, words, 1)
            },
            _ => core::ptr::null_mut(),
        }
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `export_operations.get_parent`.
    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: The VFS passes the dentry of a directory of `T`, which has an inode.
        Self::alias(T::parent(unsafe { Inode::from_raw((*child).d_inode) }))
    }
}
