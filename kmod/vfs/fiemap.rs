// SPDX-License-Identifier: GPL-2.0

//! The map of a file's extents (`FS_IOC_FIEMAP`).
//!
//! C header: `include/linux/fiemap.h`.

use crate::{bindings, file::SeekTo, filesystem::FileSystem, inode::Inode, task::killed};
use kernel::{
    error::{from_result, to_result},
    prelude::*,
};

/// Of every extent: its data are somewhere in other files, and not as they are read.
const FLAGS: u32 = bindings::FIEMAP_EXTENT_UNKNOWN
    | bindings::FIEMAP_EXTENT_ENCODED
    | bindings::FIEMAP_EXTENT_NOT_ALIGNED;

/// `inode_operations.fiemap` of regular files: what is between holes is one extent.
///
/// # Safety
///
/// Only to be called by the VFS, as `inode_operations.fiemap`.
pub(crate) unsafe extern "C" fn fiemap<T: FileSystem>(
    inode: *mut bindings::inode,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    mut len: u64,
) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes a regular file's inode of `T`, held for the call, and what it
        // has been asked.
        let inode = unsafe {
            to_result(bindings::fiemap_prep(inode, info, start, &mut len, 0))?;
            Inode::<T>::from_raw(inode)
        };
        let fill = |from, len, flags| {
            // SAFETY: As above.
            unsafe { bindings::fiemap_fill_next_extent(info, from, 0, len, flags) }
        };
        let range = start..start.saturating_add(len);
        if let Some(file) = T::kept(inode) {
            return data::<T>(inode, file, range, fill);
        }
        match T::open(inode)? {
            Some(file) => {
                let result = data::<T>(inode, &file, range, fill);
                T::release(inode, file);
                result
            }
            None => data::<T>(inode, T::kept(inode).ok_or(EIO)?, range, fill),
        }
    })
}

/// Calls `fill` for each extent in `range`, until that is not 0.
fn data<T: FileSystem>(
    inode: &Inode<T>,
    file: &T::OpenFile,
    range: core::ops::Range<u64>,
    fill: impl Fn(u64, u64, u32) -> c_int,
) -> Result<c_int> {
    let data_from = |position| match T::seek(inode, file, position, SeekTo::Data) {
        Err(ENXIO) => Ok(None),
        found => found.map(Some),
    };
    let mut next = data_from(range.start)?;
    while let Some(from) = next.filter(|from| *from < range.end) {
        if killed() {
            return Err(EINTR);
        }
        let to = T::seek(inode, file, from, SeekTo::Hole)?;
        next = data_from(to)?;
        let last = match next {
            Some(_) => 0,
            None => bindings::FIEMAP_EXTENT_LAST,
        };
        match fill(from, to.saturating_sub(from), FLAGS | last) {
            0 => {}
            1 => break, // the caller has room for no more
            error => return Err(Error::from_errno(error)),
        }
    }
    Ok(0)
}
