// SPDX-License-Identifier: GPL-2.0

//! Inodes that are not found by a name: for file handles.

use crate::{
    metadata::{Access, Reader},
    report::Failure,
};
use kernel::prelude::*;
use puzzlefs_format::{self as format, FileType};

/// Calls `take` with inode `ino`, for a file handle.
///
/// # Errors
///
/// `ESTALE` when there is none, those of [`Reader::rootfs`], and those of `take`.
pub(crate) fn by_number<R>(
    access: Access<'_>,
    ino: u64,
    take: impl FnOnce(format::Inode<'_>) -> Result<R>,
) -> Result<R, Failure> {
    let reader = Reader::new(access);
    let inode = reader.rootfs()?.inode(ino)?;
    Ok(take(inode.ok_or(ESTALE)?)?)
}

/// Calls `take` with the directory that directory `ino` is in.
///
/// # Errors
///
/// `ESTALE` when that is not recorded, or is not a directory; else as [`by_number`].
pub(crate) fn parent<R>(
    access: Access<'_>,
    ino: u64,
    take: impl FnOnce(format::Inode<'_>) -> Result<R>,
) -> Result<R, Failure> {
    let reader = Reader::new(access);
    let parent = reader.inode(ino)?.parent().ok_or(ESTALE)?;
    let parent = reader.rootfs()?.inode(parent.into())?;
    let is_directory = |inode: &format::Inode<'_>| inode.file_type() == FileType::Dir;
    Ok(take(parent.filter(is_directory).ok_or(ESTALE)?)?)
}
