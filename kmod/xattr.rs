// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use crate::{error::Failure, image::Image, metadata::Reader};
use kernel::prelude::*;
use vfs::{Inode, XattrLister};

/// Calls `take` with the attribute `name` of `inode`.
///
/// # Errors
///
/// `ENODATA` when there is none, those of [`Reader::inode`], and those of `take`.
pub(crate) fn get<R>(
    inode: &Inode<Image>,
    name: &CStr,
    take: impl FnOnce(&[u8]) -> Result<R>,
) -> Result<R, Failure> {
    let reader = Reader::new(inode.super_block());
    let xattrs = reader.inode(inode.ino())?.xattrs()?;
    let value = xattrs.find(name.to_bytes())?;
    Ok(take(value.ok_or(ENODATA)?)?)
}

/// Lists the names of all attributes of `inode`.
///
/// # Errors
///
/// `ERANGE` when they do not fit, and those of [`Reader::inode`].
pub(crate) fn list(inode: &Inode<Image>, lister: &mut XattrLister<'_>) -> Result<(), Failure> {
    let mut next = 0;
    loop {
        let reader = Reader::new(inode.super_block());
        let xattrs = reader.inode(inode.ino())?.xattrs()?;
        loop {
            if next == xattrs.len() {
                return Ok(());
            }
            lister.add(xattrs.name(next)?)?;
            next = next.saturating_add(1);
            if reader.is_full() {
                break;
            }
        }
    }
}
