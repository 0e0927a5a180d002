// SPDX-License-Identifier: Apache-2.0
//! Extended attributes of host files.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use puzzlefs_format::{xattr_is_shown, FileType};
use rustix::buffer::spare_capacity;
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::{Errno, Result};

use crate::tree::XattrSet;

/// XATTR_SIZE_MAX and XATTR_LIST_MAX of include/uapi/linux/limits.h.
const SIZE_MAX: usize = 65536;

/// Path by which an l*xattr(2) call reaches `name` in `dir` whatever its type (a
/// device or a symlink cannot be opened for f*xattr(2)).
pub fn path_at(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    path
}

/// All extended attributes that the caller may see and that readers of an image show, sorted by
/// name. A filesystem without them has none; one that vanishes meanwhile is left out.
pub fn read(dir: BorrowedFd<'_>, name: &[u8], file_type: FileType) -> Result<XattrSet> {
    let path = path_at(dir, name);
    let mut names = Vec::new();
    match rustix::fs::llistxattr_query(&path) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(XattrSet::new()),
        Ok(_) => names.reserve(SIZE_MAX),
        Err(e) => return Err(e),
    }
    llistxattr(&path, spare_capacity(&mut names))?;
    let mut set = XattrSet::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        if !xattr_is_shown(name, file_type) {
            continue;
        }
        let mut value = Vec::with_capacity(SIZE_MAX);
        match lgetxattr(&path, name, spare_capacity(&mut value)) {
            Ok(_) => set.push((name.to_vec(), value.as_slice().to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    set.sort_unstable();
    Ok(set)
}
