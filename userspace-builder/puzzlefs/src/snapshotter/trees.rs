// SPDX-License-Identifier: Apache-2.0
//! Trees that a container may have made: measured, and removed. However deep they are, neither the stack nor
//! descriptors run out.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;

use super::record::Usage;
use crate::base::text;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Directories in each other that are measured, each an open descriptor.
const MAX_DEPTH: usize = 2048;

/// The names in a directory.
fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// What the tree at `path` takes, itself included. What comes and goes meanwhile may be counted or not.
pub(crate) fn measure(path: &Path) -> Result<Usage> {
    let context = || text::path(path);
    let top = rustix::fs::open(path, FLAGS, Mode::empty()).with_context(context)?;
    let mut usage = Usage::default();
    let mut several = HashSet::new();
    let stat = rustix::fs::fstat(&top)?;
    let device = stat.st_dev;
    count(&mut usage, &mut several, &stat);
    let left = names(&top).with_context(context)?;
    let mut stack = vec![(top, left)];
    while let Some((dir, left)) = stack.last_mut() {
        let Some(name) = left.pop() else {
            stack.pop();
            continue;
        };
        let stat = match rustix::fs::statat(&*dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat.with_context(context)?,
        };
        // Nothing that is mounted there is part of it.
        if stat.st_dev != device {
            continue;
        }
        count(&mut usage, &mut several, &stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        anyhow::ensure!(stack.len() < MAX_DEPTH, "{} is too deep", context());
        let (dir, _) = &stack[stack.len() - 1];
        let sub = match rustix::fs::openat(dir, &name, FLAGS, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            sub => sub.with_context(context)?,
        };
        let left = names(&sub).with_context(context)?;
        stack.push((sub, left));
    }
    Ok(usage)
}

fn count(usage: &mut Usage, several: &mut HashSet<u64>, stat: &rustix::fs::Stat) {
    if stat.st_nlink > 1 && !several.insert(stat.st_ino) {
        return;
    }
    usage.inodes += 1;
    usage.size += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
}

/// Removes the tree at `path`, if there is one, in which nobody works any more. What is mounted in it stays, and so does
/// what is around that.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let context = || text::path(path);
    let top = match rustix::fs::open(path, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        top => top.with_context(context)?,
    };
    // Directories move up, to be emptied there: so none is ever deep.
    let mut moved = 0_u64;
    loop {
        let mut is_empty = true;
        for name in names(&top).with_context(context)? {
            is_empty = false;
            match rustix::fs::unlinkat(&top, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno).with_context(context),
            }
            match rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR) {
                Ok(()) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(errno).with_context(context),
            }
            let sub =
                rustix::fs::openat(&top, &name, FLAGS, Mode::empty()).with_context(context)?;
            for inner in names(&sub).with_context(context)? {
                match rustix::fs::unlinkat(&sub, &inner, AtFlags::empty()) {
                    Ok(()) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(errno) => return Err(errno).with_context(context),
                }
                if rustix::fs::unlinkat(&sub, &inner, AtFlags::REMOVEDIR).is_ok() {
                    continue;
                }
                // No other name is like that, as all of ours are numbers.
                let up = loop {
                    moved += 1;
                    let up = format!(".removed-{moved}");
                    if rustix::fs::statat(&top, &up, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                        break up;
                    }
                };
                rustix::fs::renameat(&sub, &inner, &top, &up).with_context(context)?;
            }
            rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR).with_context(context)?;
        }
        if is_empty {
            break;
        }
    }
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR).with_context(context)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_deep_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::write(top.join("a/b/file"), [1; 5000]).unwrap();
        fs::hard_link(top.join("a/b/file"), top.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/", top.join("a/b/root")).unwrap();
        let usage = measure(&top).unwrap();
        // top, a, b, c, file, root.
        assert_eq!(usage.inodes, 6);
        assert!(usage.size >= 5000 && usage.size % 512 == 0, "{usage:?}");
        // More than a path can have, and than may be open at the same time in some shells.
        let mut at = rustix::fs::open(&top, FLAGS, Mode::empty()).unwrap();
        for _ in 0..2500 {
            rustix::fs::mkdirat(at.as_fd(), "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(at.as_fd(), "d", FLAGS, Mode::empty()).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
    }
}
