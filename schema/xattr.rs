// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Extended attributes.

use crate::capnp::{List, Struct};
use crate::{limits, Error, FileType};
use core::ops::Range;

// Xattr: pointers.
const KEY: u16 = 0;
const VAL: u16 = 1;

/// Whether readers show the attribute `name` of an inode of this type: those, and only those,
/// that a kernel lets a filesystem have without rules of its own (xattr(7)). Others may have
/// come from the filesystem that an image was built on, as `btrfs.compression`; to list them
/// would make programs fail that copy what they find.
pub fn xattr_is_shown(name: &[u8], file_type: FileType) -> bool {
    let has_prefix = |prefix: &[u8]| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty())
    };
    match file_type {
        _ if has_prefix(b"trusted.") || has_prefix(b"security.") => true,
        // The permissions of other files guard something else than what is stored with them.
        FileType::File | FileType::Dir if has_prefix(b"user.") => true,
        FileType::Dir if name == b"system.posix_acl_default" => true,
        FileType::Symlink => false,
        _ => name == b"system.posix_acl_access",
    }
}

/// The extended attributes of an inode.
#[derive(Clone, Copy, Debug)]
pub struct Xattrs<'a> {
    list: Option<List<'a>>,
}

/// An extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr<'a> {
    /// With its namespace (`user.` ...): 1 to 255 bytes, none of them NUL.
    pub name: &'a [u8],
    /// Up to 64 KiB.
    pub value: &'a [u8],
}

impl<'a> Xattrs<'a> {
    pub(crate) const EMPTY: Self = Self { list: None };

    pub(crate) fn new(list: List<'a>) -> Result<Self, Error> {
        if list.len() > limits::MAX_XATTRS {
            return Err(Error::LimitExceeded);
        }
        Ok(Self { list: Some(list) })
    }

    /// Number of attributes.
    #[inline]
    pub fn len(&self) -> u32 {
        self.list.map_or(0, |list| list.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn xattr(&self, index: u32) -> Result<Struct<'a>, Error> {
        self.list.ok_or(Error::OutOfRange)?.get(index)
    }

    /// The name of attribute `index`.
    pub fn name(&self, index: u32) -> Result<&'a [u8], Error> {
        let name = self.xattr(index)?.data(KEY, limits::MAX_XATTR_NAME_BYTES)?;
        if name.is_empty() || name.contains(&0) {
            return Err(Error::BadXattr);
        }
        Ok(name)
    }

    fn value(&self, index: u32) -> Result<&'a [u8], Error> {
        self.xattr(index)?.data(VAL, limits::MAX_XATTR_VALUE_BYTES)
    }

    /// Attribute `index`.
    pub fn get(&self, index: u32) -> Result<Xattr<'a>, Error> {
        Ok(Xattr {
            name: self.name(index)?,
            value: self.value(index)?,
        })
    }

    /// The value of the first attribute `name`.
    pub fn find(&self, name: &[u8]) -> Result<Option<&'a [u8]>, Error> {
        let Some(list) = &self.list else {
            return Ok(None);
        };
        let mut next = 0;
        while next < self.len() {
            let (index, is_found) = list.scope(|list| {
                let xattrs = Xattrs { list: Some(list) };
                xattrs.find_up_to(name, next..self.len())
            })?;
            if is_found {
                return self.value(index).map(Some);
            }
            next = index;
        }
        Ok(None)
    }

    /// Looks among these attributes in one scope: where it ended, and whether that is the first
    /// with `name`.
    fn find_up_to(&self, name: &[u8], range: Range<u32>) -> Result<(u32, bool), Error> {
        for index in range.clone() {
            let is_full = self.list.is_some_and(|list| list.is_full());
            if index > range.start && is_full {
                return Ok((index, false));
            }
            if self.name(index)? == name {
                return Ok((index, true));
            }
        }
        Ok((range.end, false))
    }
}
