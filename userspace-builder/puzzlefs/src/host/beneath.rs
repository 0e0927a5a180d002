// SPDX-License-Identifier: Apache-2.0
//! Opening files below a directory without following a symbolic link or leaving it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Result;

/// A path longer than this goes in pieces, below the kernel's PATH_MAX (4096 with its NUL).
const PIECE: usize = 4000;

/// Names lead down, and no link is followed.
pub const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path`, relative, below `root` by openat2(2) with RESOLVE_BENEATH and
/// RESOLVE_NO_SYMLINKS. Any length of path will do.
pub fn open(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let step = |dir: &dyn AsFd, path: &[u8], flags| {
        rustix::fs::openat2(dir.as_fd(), path, flags, Mode::empty(), RESOLVE)
    };
    let mut rest = path.as_os_str().as_bytes();
    let mut dir: Option<OwnedFd> = None;
    while rest.len() > PIECE {
        // Names are at most 255 bytes, so there is a slash to cut at.
        let cut = rest[..PIECE]
            .iter()
            .rposition(|&b| b == b'/')
            .ok_or(rustix::io::Errno::NAMETOOLONG)?;
        let at: &dyn AsFd = dir.as_ref().map_or(&root as &dyn AsFd, |d| d);
        let next = step(
            at,
            &rest[..cut],
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        )?;
        dir = Some(next);
        rest = &rest[cut + 1..];
    }
    let at: &dyn AsFd = dir.as_ref().map_or(&root as &dyn AsFd, |d| d);
    step(at, rest, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    /// Above the directory there is something, and nothing leads to it.
    #[test]
    fn no_path_leaves_the_directory() {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("root");
        std::fs::create_dir_all(root.join("below")).unwrap();
        std::fs::write(above.path().join("secret"), "").unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("below", root.join("link")).unwrap();
        let dir = std::fs::File::open(&root).unwrap();
        let open = |path: &str| super::open(&dir, Path::new(path), OFlags::RDONLY).err();
        assert_eq!(open("file"), None);
        assert_eq!(open("below/../file"), None);
        let absolute = above.path().join("secret");
        for path in [
            "..",
            "../secret",
            "below/../../secret",
            absolute.to_str().unwrap(),
        ] {
            assert_eq!(open(path), Some(Errno::XDEV), "{path}");
        }
        for path in ["link", "link/../file"] {
            assert_eq!(open(path), Some(Errno::LOOP), "{path}");
        }
        // One that goes in pieces does not either.
        let long = "./".repeat(3000);
        assert_eq!(open(&format!("{long}file")), None);
        assert_eq!(open(&format!("{long}../secret")), Some(Errno::XDEV));
    }
}
