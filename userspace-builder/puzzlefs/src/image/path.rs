// SPDX-License-Identifier: Apache-2.0
//! From a path to what it names.

use anyhow::Context;
use puzzlefs_format::{Inode, Kind};

use super::Image;
use crate::base::error::{Error, Result};
use crate::base::text;

/// Symbolic links on the way to a file, at most, as the kernel has it (MAXSYMLINKS).
const MAX_LINKS: u32 = 40;

impl Image {
    /// The inode at `path`, symbolic links followed as if the image was the root of all.
    pub fn follow(&self, path: &[u8]) -> Result<Inode<'_>> {
        self.lookup(&self.resolve(path)?)
    }

    /// The path of the same inode on which there is no symbolic link; empty, or with a slash at its beginning.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        // What is still to be gone, the next name last, and where that is.
        let names = |path: &[u8]| -> Vec<Vec<u8>> {
            let names = path.split(|&b| b == b'/').filter(|n| !n.is_empty());
            names.rev().map(<[u8]>::to_vec).collect()
        };
        let (mut rest, mut at) = (names(path), Vec::<u8>::new());
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b"." || name == b".." {
                let parent = at.iter().rposition(|b| *b == b'/').unwrap_or(0);
                at.truncate(if name == b"." { at.len() } else { parent });
                continue;
            }
            let dir = at.len();
            at.push(b'/');
            at.extend(name);
            let Kind::Symlink(target) = self.lookup(&at)?.kind()? else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                let text = format!("{}: more than {MAX_LINKS} links", text::quoted(path));
                return Err(Error::refused(text));
            }
            at.truncate(if target.starts_with(b"/") { 0 } else { dir });
            rest.extend(names(target));
        }
        Ok(at)
    }

    /// The inode at `path`, byte strings between slashes; symlinks are not followed.
    pub fn lookup(&self, path: &[u8]) -> Result<Inode<'_>> {
        let rootfs = self.rootfs()?;
        let show = || text::quoted(path);
        let mut inode = rootfs.root()?;
        for name in path.split(|&b| b == b'/').filter(|n| !n.is_empty()) {
            let Kind::Dir(dir) = inode.kind().with_context(show)? else {
                let text = format!("{}: a part of the path is no directory", show());
                return Err(Error::not_found(text));
            };
            self.work.entries(&dir).with_context(show)?;
            let found = rootfs
                .lookup(&dir, name, dir.is_sorted()?)
                .with_context(show)?;
            let missing = || Error::not_found(format!("{}: not in the image", show()));
            inode = found.ok_or_else(missing)?;
        }
        Ok(inode)
    }
}
