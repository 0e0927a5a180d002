// SPDX-License-Identifier: Apache-2.0
//! Opening files below a directory without following a symbolic link or leaving it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Result;

/// A path longer than this goes in pieces, below the kernel's PATH_MAX (4096 with its NUL).
const PIECE: usize = 4000;

/// Opens `path`, relative, below `root` by openat2(2) with RESOLVE_BENEATH and
/// RESOLVE_NO_SYMLINKS. Any length of path will do.
pub fn open(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let step = |dir: &dyn AsFd, path: &[u8], flags| {
        rustix::fs::openat2(dir.as_fd(), path, flags, Mode::empty(), resolve)
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
