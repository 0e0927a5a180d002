// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use super::data::Node;
use crate::{metadata::Reader, report::Failure};
use kernel::prelude::*;
use puzzlefs_format::xattr_is_shown;
use vfs::XattrLister;

/// Calls `take` with the attribute `name` of `node`.
///
/// # Errors
///
/// `ENODATA` when there is none, those of [`Reader::inode`], and those of `take`.
pub(crate) fn get<R>(
    node: &Node<'_>,
    name: &CStr,
    take: impl FnOnce(&[u8]) -> Result<R>,
) -> Result<R, Failure> {
    let reader = Reader::new(node.access);
    let format = reader.inode(node.ino)?;
    if !xattr_is_shown(name.to_bytes(), format.file_type()) {
        return Err(ENODATA.into());
    }
    let xattrs = format.xattrs()?;
    let value = xattrs.find(name.to_bytes())?;
    Ok(take(value.ok_or(ENODATA)?)?)
}

/// Lists the names of all attributes of `node`.
///
/// # Errors
///
/// `ERANGE` when they do not fit, and those of [`Reader::inode`].
pub(crate) fn list(node: &Node<'_>, lister: &mut XattrLister<'_>) -> Result<(), Failure> {
    let mut next = 0;
    loop {
        let reader = Reader::new(node.access);
        let format = reader.inode(node.ino)?;
        let xattrs = format.xattrs()?;
        loop {
            if next == xattrs.len() {
                return Ok(());
            }
            let name = xattrs.name(next)?;
            if xattr_is_shown(name, format.file_type()) {
                lister.add(name)?;
            }
            next = next.saturating_add(1);
            if reader.is_full() {
                break;
            }
        }
    }
}
