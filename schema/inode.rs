// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Inodes.

use crate::capnp::Struct;
use crate::{limits, Dir, Error, Extents, Xattrs, VERSION_BLOCKS, VERSION_HOLES};

// Inode: bytes of data. What upstream lacks reads as 0 from its images.
const INO: usize = 0;
const MODE: usize = 8;
/// The mode of an inode that is not there.
const WHITEOUT: u16 = 8;
const PERMISSIONS: usize = 10;
/// What chown(2) takes for "leave it as it is": no user and no group has this number.
const NOBODY: u32 = u32::MAX;
/// A bit of the permissions, from version 6 on.
const SPARSE: u16 = 1 << 15;
const UID: usize = 12;
const GID: usize = 16;
const MTIME_NSEC: usize = 20;
const MTIME: usize = 24;
const NLINK: usize = 32;
const PARENT: usize = 36;
const SIZE: usize = 40;
// Inode: pointers. The members of the union `mode` share one.
const MEMBER: u16 = 0;
const ADDITIONAL: u16 = 1;

// Chr and Blk: bytes of data.
const MAJOR: usize = 0;
const MINOR: usize = 8;

// InodeAdditional: pointers.
const XATTRS: u16 = 0;
const SYMLINK_TARGET: u16 = 1;

/// What an inode is, without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A named pipe.
    Fifo,
    /// A character device.
    Chr,
    /// A directory.
    Dir,
    /// A block device.
    Blk,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Sock,
}

impl FileType {
    /// Its number in the union `mode` of the schema.
    pub fn number(self) -> u16 {
        match self {
            Self::Fifo => 1,
            Self::Chr => 2,
            Self::Dir => 3,
            Self::Blk => 4,
            Self::File => 5,
            Self::Symlink => 6,
            Self::Sock => 7,
        }
    }

    /// What has this number there.
    #[inline]
    pub(crate) fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Fifo,
            2 => Self::Chr,
            3 => Self::Dir,
            4 => Self::Blk,
            5 => Self::File,
            6 => Self::Symlink,
            7 => Self::Sock,
            _ => return None,
        })
    }
}

/// What an inode is, with what is in it.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// A named pipe.
    Fifo,
    /// A socket.
    Sock,
    /// A character device.
    Chr(Device),
    /// A block device.
    Blk(Device),
    /// A directory.
    Dir(Dir<'a>),
    /// A regular file.
    File(Extents<'a>),
    /// A symbolic link and its target: 1 to 4095 bytes, none of them NUL.
    Symlink(&'a [u8]),
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its driver: 12 bits.
    pub major: u32,
    /// Which of that driver's devices: 20 bits.
    pub minor: u32,
}

/// A time since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds on top, less than a billion.
    pub nsec: u32,
}

/// An inode that is there: not a whiteout.
#[derive(Clone, Copy, Debug)]
pub struct Inode<'a> {
    inode: Struct<'a>,
    file_type: FileType,
    version: u64,
}

impl<'a> Inode<'a> {
    /// The number of what may be a whiteout.
    #[inline]
    pub(crate) fn ino_of(inode: &Struct<'_>) -> u64 {
        inode.u64(INO)
    }

    /// Checks the fields whose accessors cannot fail; `None` for a whiteout.
    #[inline]
    pub(crate) fn new(inode: Struct<'a>, version: u64) -> Result<Option<Self>, Error> {
        let mode = inode.u16(MODE);
        if mode == WHITEOUT {
            return Ok(None);
        }
        let file_type = FileType::of(mode).ok_or(Error::BadMode)?;
        if inode.u32(MTIME_NSEC) >= 1_000_000_000 {
            return Err(Error::BadTime);
        }
        if inode.u32(UID) == NOBODY || inode.u32(GID) == NOBODY {
            return Err(Error::BadOwner);
        }
        Ok(Some(Self {
            inode,
            file_type,
            version,
        }))
    }

    /// Its number.
    #[inline]
    pub fn ino(&self) -> u64 {
        self.inode.u64(INO)
    }

    /// Its owner; not `u32::MAX`.
    #[inline]
    pub fn uid(&self) -> u32 {
        self.inode.u32(UID)
    }

    /// Its group; not `u32::MAX`.
    #[inline]
    pub fn gid(&self) -> u32 {
        self.inode.u32(GID)
    }

    /// Its permissions with set-uid, set-gid and sticky: 12 bits.
    #[inline]
    pub fn permissions(&self) -> u16 {
        self.inode.u16(PERMISSIONS) & 0o7777
    }

    /// When its content was last modified; the epoch if that is not recorded.
    #[inline]
    pub fn mtime(&self) -> Timespec {
        Timespec {
            sec: self.inode.i64(MTIME),
            nsec: self.inode.u32(MTIME_NSEC),
        }
    }

    /// Its number of links, if that is recorded.
    #[inline]
    pub fn nlink(&self) -> Option<u32> {
        Some(self.inode.u32(NLINK)).filter(|nlink| *nlink != 0)
    }

    /// Of a regular file its size, of a directory its number of entries; if that is recorded
    /// and not 0. Proved by [`Extents::total`] and [`Dir::len`].
    #[inline]
    pub fn recorded_size(&self) -> Option<u64> {
        Some(self.inode.u64(SIZE)).filter(|size| *size != 0)
    }

    /// Of a regular file: whether it may have holes; without a look at its extents.
    #[inline]
    pub fn may_have_holes(&self) -> bool {
        let says_so = self.inode.u16(PERMISSIONS) & SPARSE != 0;
        self.version >= VERSION_HOLES && (self.version < VERSION_BLOCKS || says_so)
    }

    /// Whether it may have extended attributes; without a look at them.
    #[inline]
    pub fn may_have_xattrs(&self) -> Result<bool, Error> {
        Ok(self.file_type == FileType::Symlink || !self.inode.is_null(ADDITIONAL)?)
    }

    /// Of a directory: the number of the one that it is in, itself for the root; if that
    /// is recorded.
    #[inline]
    pub fn parent(&self) -> Option<u32> {
        Some(self.inode.u32(PARENT)).filter(|parent| *parent != 0)
    }

    /// What it is.
    #[inline]
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// What it is, with what is in it.
    #[inline]
    pub fn kind(&self) -> Result<Kind<'a>, Error> {
        Ok(match self.file_type {
            FileType::Fifo => Kind::Fifo,
            FileType::Sock => Kind::Sock,
            FileType::Chr => Kind::Chr(self.device()?),
            FileType::Blk => Kind::Blk(self.device()?),
            FileType::Dir => Kind::Dir(Dir::new(self.inode.structure(MEMBER)?)?),
            FileType::File => {
                let chunks = self.inode.list(MEMBER)?;
                let size = self.inode.u64(SIZE);
                // Without it a reader has to add up all extents to know the size.
                if self.version >= VERSION_BLOCKS && size == 0 && !chunks.is_empty() {
                    return Err(Error::NoSize);
                }
                let allow_holes = self.version >= VERSION_HOLES;
                Kind::File(Extents::new(chunks, size, allow_holes)?)
            }
            FileType::Symlink => Kind::Symlink(self.symlink_target()?),
        })
    }

    fn device(&self) -> Result<Device, Error> {
        let Some(device) = self.inode.structure(MEMBER)? else {
            return Ok(Device { major: 0, minor: 0 });
        };
        let number = |at, max| match u32::try_from(device.u64(at)) {
            Ok(number) if number <= max => Ok(number),
            _ => Err(Error::BadDevice),
        };
        Ok(Device {
            major: number(MAJOR, limits::MAX_MAJOR)?,
            minor: number(MINOR, limits::MAX_MINOR)?,
        })
    }

    fn symlink_target(&self) -> Result<&'a [u8], Error> {
        let additional = self.inode.structure(ADDITIONAL)?.ok_or(Error::BadSymlink)?;
        let target = additional.data(SYMLINK_TARGET, limits::MAX_SYMLINK_BYTES)?;
        if target.is_empty() || target.contains(&0) {
            return Err(Error::BadSymlink);
        }
        Ok(target)
    }

    /// Its extended attributes.
    pub fn xattrs(&self) -> Result<Xattrs<'a>, Error> {
        match self.inode.structure(ADDITIONAL)? {
            Some(additional) => Xattrs::new(additional.list(XATTRS)?),
            None => Ok(Xattrs::EMPTY),
        }
    }
}
