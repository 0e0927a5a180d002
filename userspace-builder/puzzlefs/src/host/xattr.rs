// SPDX-License-Identifier: Apache-2.0
//! Extended attributes of host files, and what Linux asks of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use puzzlefs_format::{xattr_is_shown, FileType};
use rustix::buffer::spare_capacity;
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::{Errno, Result};

/// The extended attributes of an inode, sorted by name.
pub type XattrSet = Vec<(Vec<u8>, Vec<u8>)>;

/// The names of the two POSIX ACLs.
const ACLS: &[&str] = &["system.posix_acl_access", "system.posix_acl_default"];

/// XATTR_SIZE_MAX and XATTR_LIST_MAX of include/uapi/linux/limits.h.
const SIZE_MAX: usize = 65536;

/// Path by which an l*xattr(2) call reaches `name` in `dir` whatever its type (a
/// device or a symlink cannot be opened for f*xattr(2)).
pub fn path_at(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    path
}

/// Whether [`path_at`] will do.
///
/// # Errors
///
/// Without /proc, by which alone attributes of a device or of a symlink are reached.
pub fn need_proc() -> anyhow::Result<()> {
    anyhow::ensure!(
        std::path::Path::new("/proc/self/fd").is_dir(),
        "/proc is not mounted here, and extended attributes are reached by /proc/self/fd: mount it \
         first (mount -t proc proc /proc)"
    );
    Ok(())
}

/// All extended attributes that the caller may see and that readers of an image show, sorted by
/// name; and the names of all others. A filesystem without them has none; one that vanishes meanwhile
/// is left out.
pub fn read(
    dir: BorrowedFd<'_>,
    name: &[u8],
    file_type: FileType,
) -> Result<(XattrSet, Vec<Vec<u8>>)> {
    let path = path_at(dir, name);
    let mut names = Vec::new();
    match rustix::fs::llistxattr_query(&path) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Default::default()),
        Ok(_) => names.reserve(SIZE_MAX),
        Err(e) => return Err(e),
    }
    llistxattr(&path, spare_capacity(&mut names))?;
    let mut set = XattrSet::new();
    let (shown, others) = sort(&names, file_type);
    for name in shown {
        let mut value = Vec::with_capacity(SIZE_MAX);
        match lgetxattr(&path, name, spare_capacity(&mut value)) {
            Ok(_) => set.push((name.to_vec(), value.as_slice().to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    set.sort_unstable();
    Ok((set, others))
}

/// The names in a list of listxattr(2), those that readers of an image show first.
fn sort(list: &[u8], file_type: FileType) -> (Vec<&[u8]>, Vec<Vec<u8>>) {
    let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
    let (shown, others): (Vec<_>, Vec<_>) = names.partition(|name| xattr_is_shown(name, file_type));
    (shown, others.into_iter().map(<[u8]>::to_vec).collect())
}

/// Removes the access control lists of a directory, as far as it has some.
pub fn remove_acls(dir: impl AsFd) -> Result<()> {
    for name in ACLS {
        match rustix::fs::fremovexattr(&dir, *name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether Linux takes this value: it has ideas of its own of ACLs and capabilities, and where
/// they are others, whoever copies the file fails, or whoever goes through the directory.
pub fn has_form(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => is_acl(value),
        b"security.capability" => is_capability(value),
        _ => true,
    }
}

/// As posix_acl_from_xattr() of the kernel has it: a version, and entries of a tag, of permissions
/// and of a number, which those of the tags 2 and 8 need. One without entries is none.
fn is_acl(value: &[u8]) -> bool {
    let entries = value.strip_prefix(&2u32.to_le_bytes()).unwrap_or_default();
    let is_entry = |entry: &[u8]| {
        let is_somebodys = entry.get(4..) != Some(&[0xff; 4]);
        match entry.get(..2) {
            Some([2 | 8, 0]) => is_somebodys,
            tag => matches!(tag, Some([1 | 4 | 16 | 32, 0])),
        }
    };
    !entries.is_empty() && entries.len() % 8 == 0 && entries.chunks(8).all(is_entry)
}

/// Of revision 2, or of 3, which has the number of a user more. Bit 0 of its head is a flag.
fn is_capability(value: &[u8]) -> bool {
    let revision = match value.len() {
        20 => 2,
        24 => 3,
        _ => return false,
    };
    matches!(value, [0 | 1, 0, 0, found, ..] if *found == revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_image_shows_is_named() {
        let list = b"btrfs.compression\0user.a\0system.nfs4_acl\0security.b\0\
            system.posix_acl_access\0trusted.c\0";
        let names = |list: &[&[u8]]| list.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
        let (shown, others) = sort(list, FileType::File);
        let acl: &[u8] = b"system.posix_acl_access";
        let expected: [&[u8]; 4] = [b"user.a", b"security.b", acl, b"trusted.c"];
        assert_eq!(names(&shown), names(&expected));
        assert_eq!(others, names(&[b"btrfs.compression", b"system.nfs4_acl"]));
    }
}
