// SPDX-License-Identifier: GPL-2.0

//! What `statx(2)` says beyond the inode itself.

use crate::bindings;
use kernel::prelude::*;

/// `inode_operations.getattr`: nothing here is ever changed, and nothing is read past the
/// page cache. Whether a file is compressed (`STATX_ATTR_COMPRESSED`) is left open: that is
/// a chunk's affair, which to look up is no work for a stat.
///
/// # Safety
///
/// Only to be called by the VFS, as `inode_operations.getattr`.
pub(crate) unsafe extern "C" fn getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    _query_flags: c_uint,
) -> c_int {
    // SAFETY: The VFS passes a path with a positive dentry, and a `struct kstat` to fill.
    unsafe {
        let inode = bindings::vfs_rs_path_inode(path);
        bindings::generic_fillattr(idmap, request_mask, inode, stat);
        (*stat).attributes |= u64::from(bindings::STATX_ATTR_IMMUTABLE);
        (*stat).attributes_mask |= u64::from(bindings::STATX_ATTR_IMMUTABLE);
        // The alignment stays 0: there is no direct I/O.
        let is_regular = u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFREG;
        if is_regular {
            (*stat).result_mask |= request_mask & bindings::STATX_DIOALIGN;
        }
    }
    0
}
