// SPDX-License-Identifier: Apache-2.0
//! What the host says of a file: statx(2), which tells mounts apart.

use std::os::fd::AsFd;

use rustix::fs::{statx, AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Result;

/// STATX_MNT_ID_UNIQUE of include/uapi/linux/stat.h, since Linux 6.8: a number that no later mount
/// gets.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// A file of the host.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Its mount, or its device where the kernel (before Linux 5.8) does not say the mount.
    pub mount: u64,
    /// Its type.
    pub kind: FileType,
    /// Permission bits, 0o7777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that it has.
    pub nlink: u32,
    /// Bytes on the device, in units of 512.
    pub blocks: u64,
    /// Of a device its major and minor number.
    pub device: (u32, u32),
    /// What changes if its content does.
    pub facts: Facts,
}

/// By these a file is known again. No time is set back by writing to it, by giving it other
/// attributes, another name, or a time: `ctime` is that of the last such change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facts {
    /// Device of its filesystem.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Time of the last modification: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Time of the last change.
    pub ctime: (i64, u32),
}

impl Stat {
    /// The file `name` in `dir`, not followed if it is a symlink, not mounted by automount.
    pub fn at(dir: impl AsFd, name: &[u8]) -> Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID | UNIQUE;
        Ok(Self::from(&statx(dir, name, flags, mask)?))
    }

    /// An open file.
    pub fn of(file: impl AsFd) -> Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID | UNIQUE;
        Ok(Self::from(&statx(file, c"", AtFlags::EMPTY_PATH, mask)?))
    }
}

impl From<&Statx> for Stat {
    fn from(found: &Statx) -> Self {
        let dev = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
        let has_mount =
            StatxFlags::from_bits_retain(found.stx_mask).intersects(StatxFlags::MNT_ID | UNIQUE);
        Stat {
            mount: if has_mount { found.stx_mnt_id } else { dev },
            kind: FileType::from_raw_mode(found.stx_mode.into()),
            permissions: found.stx_mode & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            nlink: found.stx_nlink,
            blocks: found.stx_blocks,
            device: (found.stx_rdev_major, found.stx_rdev_minor),
            facts: Facts {
                dev,
                ino: found.stx_ino,
                size: found.stx_size,
                mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
                ctime: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            },
        }
    }
}
