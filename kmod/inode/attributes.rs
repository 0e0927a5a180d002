// SPDX-License-Identifier: GPL-2.0

//! What the VFS is told of an inode.

use crate::{
    metadata::{self, Access},
    report::Failure,
};
use kernel::prelude::*;
use puzzlefs_format::{self as format, limits, Device, FileType, Kind};
use vfs::{Attributes, InodeKind};

/// Files of more extents are taken as if they had no holes by `st_blocks`: that is no reason to
/// read much of the metadata whenever one is looked up.
const MAX_EXTENTS_FOR_HOLES: u32 = 64;

/// What the VFS is told of `inode`.
///
/// # Errors
///
/// When its metadata is not sound, cannot be read, or the task was killed.
pub(crate) fn attributes<'a>(
    access: Access<'_>,
    inode: &format::Inode<'a>,
    generation: u32,
) -> Result<Attributes<'a>, Failure> {
    let content = Content::of(access, inode)?;
    let mtime = inode.mtime();
    Ok(Attributes {
        kind: content.kind,
        permissions: inode.permissions(),
        uid: inode.uid(),
        gid: inode.gid(),
        generation,
        acl: inode.may_have_xattrs()?,
        nlink: inode.nlink().unwrap_or(1),
        size: content.size,
        holes: content.holes,
        time_sec: mtime.sec,
        time_nsec: mtime.nsec,
    })
}

/// What is in an inode.
struct Content<'a> {
    kind: InodeKind<'a>,
    size: u64,
    /// How many bytes of that are in holes.
    holes: u64,
}

impl<'a> Content<'a> {
    fn new(kind: InodeKind<'a>, size: u64) -> Self {
        Self {
            kind,
            size,
            holes: 0,
        }
    }

    fn of(access: Access<'_>, inode: &format::Inode<'a>) -> Result<Self, Failure> {
        // Of most files all is known without a look at their extents, and of directories
        // without one at their entries.
        match inode.recorded_size() {
            Some(size) if inode.file_type() == FileType::File && !inode.may_have_holes() => {
                return Ok(Self::new(InodeKind::Regular, size));
            }
            Some(len) if inode.file_type() == FileType::Dir => {
                let len = len.min(limits::MAX_DIR_ENTRIES.into());
                return Ok(Self::new(InodeKind::Directory, len));
            }
            _ => {}
        }
        Ok(match inode.kind()? {
            Kind::Fifo => Self::new(InodeKind::Fifo, 0),
            Kind::Sock => Self::new(InodeKind::Socket, 0),
            Kind::Chr(Device { major, minor }) => Self::new(InodeKind::CharDevice(major, minor), 0),
            Kind::Blk(Device { major, minor }) => {
                Self::new(InodeKind::BlockDevice(major, minor), 0)
            }
            Kind::Dir(dir) => Self::new(InodeKind::Directory, dir.len().into()),
            Kind::File(extents) => {
                // Proved when the file is opened.
                let size = match extents.recorded() {
                    Some(size) => size,
                    None => metadata::added_up(access, inode.ino())?,
                };
                let holes = match extents.len() {
                    0..=MAX_EXTENTS_FOR_HOLES => extents.holes()?,
                    _ => 0,
                };
                Self {
                    holes,
                    ..Self::new(InodeKind::Regular, size)
                }
            }
            Kind::Symlink(target) => Self::new(InodeKind::Symlink(target), target.len() as u64),
        })
    }
}
