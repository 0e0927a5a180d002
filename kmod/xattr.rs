// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use crate::{error::errno, image::Image};
use kernel::prelude::*;
use vfs::{Inode, XattrLister, XattrValue};

/// The attribute `name` of `inode`.
///
/// # Errors
///
/// `ENODATA` when there is none, `EUCLEAN` when the metadata is not sound.
pub(crate) fn get<'a>(inode: &'a Inode<Image>, name: &CStr) -> Result<XattrValue<'a>> {
    let image = inode.super_block().data();
    let xattrs = image.inode(inode.ino())?.xattrs().map_err(errno)?;
    let value = xattrs.find(name.to_bytes()).map_err(errno)?;
    value.map(XattrValue).ok_or(ENODATA)
}

/// Lists the names of all attributes of `inode`.
///
/// # Errors
///
/// `ERANGE` when they do not fit, `EUCLEAN` when the metadata is not sound.
pub(crate) fn list(inode: &Inode<Image>, lister: &mut XattrLister<'_>) -> Result {
    let image = inode.super_block().data();
    let xattrs = image.inode(inode.ino())?.xattrs().map_err(errno)?;
    for index in 0..xattrs.len() {
        lister.add(xattrs.get(index).map_err(errno)?.name)?;
    }
    Ok(())
}
