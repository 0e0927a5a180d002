// SPDX-License-Identifier: Apache-2.0
//! Reads the metadata of a host directory tree.
//!
//! Inodes are numbered as upstream PuzzleFS does: directories are visited in
//! pre-order with names in byte order, and the entries of a directory get their
//! numbers together. So the siblings that `ls -l` asks for lie side by side in
//! the image, and the same tree always gives the same numbers.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use puzzlefs_format::FileType as Type;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::base::progress::Progress;
use crate::base::text;
use crate::host::{beneath, xattr};
use crate::tree::{Body, Entry, Node, Tree, ROOT_INO};

/// A scanned tree and the directory that it came from.
pub struct Scanned {
    /// The metadata; files have no extents yet.
    pub tree: Tree,
    /// The root directory, for reading the files.
    pub root: OwnedFd,
}

/// Scans the directory `root`. Times after `clamp` (seconds since the epoch) become
/// `clamp`. Does not descend into other filesystems (as `tar --one-file-system`):
/// a mount point becomes an empty directory, which is noted.
///
/// # Errors
///
/// Anything that cannot be read ends the scan, with the path in the error.
pub fn scan(root: &Path, clamp: Option<i64>, progress: &dyn Progress) -> Result<Scanned> {
    let fd = rustix::fs::open(
        root,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .with_context(|| format!("cannot open the directory {}", root.display()))?;
    let stat = rustix::fs::fstat(&fd)?;
    let mut scanner = Scanner {
        tree: Tree::new(),
        links: HashMap::new(),
        clamp,
        device: stat.st_dev,
        progress,
    };
    owned(stat.st_uid, stat.st_gid).with_context(|| root.display().to_string())?;
    let name = scanner.tree.intern(b"")?;
    let xattrs = xattr::read(fd.as_fd(), b".", Type::Dir)
        .with_context(|| format!("xattrs of {}", root.display()))?;
    let xattrs = scanner.tree.intern_xattrs(xattrs)?;
    let node = scanner.inode(&stat, ROOT_INO, name, xattrs, Body::Dir(Default::default()));
    scanner.tree.push(node)?;

    // Directories still to visit, the next one last.
    let mut stack = vec![ROOT_INO];
    while let Some(ino) = stack.pop() {
        let path = scanner.tree.path(ino);
        let context = || {
            format!(
                "cannot read the directory {}",
                text::path(&root.join(&path))
            )
        };
        let dir =
            beneath::open(&fd, &path, OFlags::RDONLY | OFlags::DIRECTORY).with_context(context)?;
        if rustix::fs::fstat(&dir)?.st_dev != scanner.device {
            progress.note(&format!(
                "{} is another filesystem: stored as an empty directory",
                text::path(&root.join(&path))
            ));
            continue;
        }
        let first = stack.len();
        scanner
            .directory(ino, dir, &root.join(&path), &mut stack)
            .with_context(context)?;
        stack[first..].reverse();
    }
    Ok(Scanned {
        tree: scanner.tree,
        root: fd,
    })
}

struct Scanner<'a> {
    tree: Tree,
    /// Host (device, inode) of files with several links, and their number here.
    links: HashMap<(u64, u64), u32>,
    clamp: Option<i64>,
    device: u64,
    progress: &'a dyn Progress,
}

impl Scanner<'_> {
    fn inode(
        &self,
        stat: &Stat,
        parent: u32,
        name: crate::tree::Text,
        xattrs: u32,
        body: Body,
    ) -> Node {
        let (mtime, mtime_nsec) = clamped(stat, self.clamp);
        Node {
            mtime,
            mtime_nsec,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: if matches!(body, Body::Dir(_)) { 2 } else { 1 },
            xattrs,
            parent,
            name,
            permissions: (stat.st_mode & 0o7777) as u16,
            body,
        }
    }

    /// Reads one directory: all names, then an inode for each in order of the names.
    fn directory(
        &mut self,
        ino: u32,
        fd: OwnedFd,
        path: &Path,
        subdirs: &mut Vec<u32>,
    ) -> Result<()> {
        let first = self.tree.entries.len();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let name = self.tree.intern(name)?;
                self.tree.entries.push(Entry { ino: 0, name });
            }
        }
        let span = self.tree.sort_entries(first)?;
        for index in first..self.tree.entries.len() {
            let child = self
                .entry(ino, fd.as_fd(), index, subdirs)
                .with_context(|| {
                    let name = self.tree.text(self.tree.entries[index].name);
                    format!("cannot read {}", xattr_join(path, name))
                })?;
            self.tree.entries[index].ino = child;
        }
        self.tree.node_mut(ino).body = Body::Dir(span);
        self.progress
            .advance(u64::try_from(self.tree.entries.len() - first)?);
        Ok(())
    }

    /// The inode number of the entry `index`, which is in the directory `dir`.
    fn entry(
        &mut self,
        dir: u32,
        fd: BorrowedFd<'_>,
        index: usize,
        subdirs: &mut Vec<u32>,
    ) -> Result<u32> {
        let spelling = self.tree.entries[index].name;
        let name = self.tree.text(spelling).to_vec();
        let stat = match rustix::fs::statat(fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                bail!("it vanished during the build; the tree must not change meanwhile")
            }
            stat => stat?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let host = (stat.st_dev, stat.st_ino);
        if kind == FileType::Directory {
            self.tree.node_mut(dir).nlink += 1;
        } else if stat.st_nlink > 1 {
            if let Some(&ino) = self.links.get(&host) {
                self.tree.node_mut(ino).nlink += 1;
                return Ok(ino);
            }
        }
        let device = || {
            (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            )
        };
        let body = match kind {
            FileType::Directory => Body::Dir(Default::default()),
            FileType::RegularFile => Body::File {
                size: u64::try_from(stat.st_size)?,
                extents: Default::default(),
            },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(fd, &name, Vec::new())?;
                Body::Symlink(self.tree.intern(target.as_bytes())?)
            }
            FileType::CharacterDevice => Body::Chr(device().0, device().1),
            FileType::BlockDevice => Body::Blk(device().0, device().1),
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Sock,
            FileType::Unknown => bail!("unknown file type, mode {:o}", stat.st_mode),
        };
        owned(stat.st_uid, stat.st_gid)?;
        let file_type = match kind {
            FileType::Directory => Type::Dir,
            FileType::RegularFile => Type::File,
            FileType::Symlink => Type::Symlink,
            FileType::CharacterDevice => Type::Chr,
            FileType::BlockDevice => Type::Blk,
            FileType::Fifo => Type::Fifo,
            _ => Type::Sock,
        };
        let xattrs = xattr::read(fd, &name, file_type).context("its extended attributes")?;
        let xattrs = self.tree.intern_xattrs(xattrs)?;
        let node = self.inode(&stat, dir, spelling, xattrs, body);
        let ino = self.tree.push(node)?;
        if kind == FileType::Directory {
            subdirs.push(ino);
        } else if stat.st_nlink > 1 {
            self.links.insert(host, ino);
        }
        Ok(ino)
    }
}

/// Refuses an owner or a group that no image can have (FORMAT.md, section 3.3).
fn owned(uid: u32, gid: u32) -> Result<()> {
    for (what, number) in [("owner", uid), ("group", gid)] {
        ensure!(
            number != u32::MAX,
            "its {what} is {number}, which chown(2) could set nowhere: give it another one"
        );
    }
    Ok(())
}

/// Modification time of a host file, at most `clamp`.
pub fn clamped(stat: &Stat, clamp: Option<i64>) -> (i64, u32) {
    match clamp {
        Some(limit) if stat.st_mtime >= limit => (limit, 0),
        // The kernel keeps nanoseconds below 10^9.
        _ => (stat.st_mtime, stat.st_mtime_nsec as u32),
    }
}

fn xattr_join(dir: &Path, name: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    text::path(&dir.join(std::ffi::OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::owned;

    #[test]
    fn nobody_is_refused() {
        owned(0, u32::MAX - 1).unwrap();
        for (uid, gid, what) in [(u32::MAX, 0, "owner"), (0, u32::MAX, "group")] {
            let error = owned(uid, gid).unwrap_err().to_string();
            assert!(
                error.contains(what) && error.contains("4294967295"),
                "{error}"
            );
        }
    }
}
