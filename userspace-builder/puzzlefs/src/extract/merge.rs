// SPDX-License-Identifier: Apache-2.0
//! What was extracted comes into a directory that has things already.
//!
//! Each is moved to its place by a rename, which replaces what is there and follows no link. A directory
//! that is there stays, with what else it has. A file never replaces a directory with anything in it:
//! that is found out before anything is moved.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType};

use crate::base::error::Error;
use crate::base::text;
use crate::extract::kept::Kept;
use crate::host::dir::Dir;

/// What became of the directory.
#[derive(Default)]
pub(super) struct Merged {
    /// The directories that were there before and still are, and the one that all is in.
    pub(super) dirs: HashSet<PathBuf>,
    /// How many other things were replaced.
    pub(super) replaced: u64,
}

/// Moves all that is in `from` into `to`, but for what is `kept` there.
///
/// # Errors
///
/// If a directory with anything in it is in the place of something else, or another filesystem is mounted in
/// there: nothing is moved then. After other errors what was moved stays.
pub(super) fn merge(from: &Dir, to: &Dir, kept: &Kept) -> Result<Merged> {
    go(from, to, kept, true)?;
    go(from, to, kept, false)
}

/// Goes through the directories that are in both; with `is_dry` only looks.
fn go(from: &Dir, to: &Dir, kept: &Kept, is_dry: bool) -> Result<Merged> {
    let mut merged = Merged::default();
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let open = |root: &Dir| match path.as_os_str().is_empty() {
            true => root.try_clone(),
            false => root.subdir(&path),
        };
        let context = |name: &OsStr| text::quoted(path.join(name).as_os_str().as_bytes());
        let (new, old) = (open(from), open(to));
        let (new, old) = (
            new.with_context(|| text::path(&path))?,
            old.with_context(|| text::path(&path))?,
        );
        let names = new.names()?;
        if !names.is_empty() && !new.is_beside(&old)? {
            let text = format!(
                "{}: another filesystem is mounted there, and nothing can be moved to it",
                text::path(&path)
            );
            return Err(Error::refused(text).at(&path).into());
        }
        for name in names {
            let full = path.join(&name);
            let stays = kept.is_it(&full) || kept.is_above(&full) && !are_dirs(&new, &old, &name);
            if stays {
                continue;
            }
            let what = one(&new, &old, &name, is_dry).with_context(|| context(&name))?;
            match what {
                What::New => {}
                What::Replaced => merged.replaced += 1,
                What::Both => {
                    merged.dirs.insert(full.clone());
                    stack.push(full);
                }
            }
        }
    }
    Ok(merged)
}

enum What {
    New,
    Replaced,
    /// Both are directories, and nothing was done.
    Both,
}

/// Whether both have a directory of that name.
fn are_dirs(new: &Dir, old: &Dir, name: &OsStr) -> bool {
    let is_dir = |dir: &Dir| {
        let mode = dir.status(name).map(|found| found.st_mode);
        mode.is_ok_and(|mode| FileType::from_raw_mode(mode) == FileType::Directory)
    };
    is_dir(new) && is_dir(old)
}

fn one(new: &Dir, old: &Dir, name: &OsStr, is_dry: bool) -> Result<What> {
    let is_dir = |dir: &Dir| -> io::Result<bool> {
        let mode = dir.status(name)?.st_mode;
        Ok(FileType::from_raw_mode(mode) == FileType::Directory)
    };
    let there = match is_dir(old) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?),
    };
    let (what, removed) = match (is_dir(new)?, there) {
        (_, None) => (What::New, None),
        (true, Some(true)) => return Ok(What::Both),
        (true, Some(false)) => (What::Replaced, Some(AtFlags::empty())),
        (false, Some(false)) => (What::Replaced, None),
        (false, Some(true)) => {
            ensure_empty(old, name)?;
            (What::Replaced, Some(AtFlags::REMOVEDIR))
        }
    };
    if !is_dry {
        if let Some(flags) = removed {
            rustix::fs::unlinkat(old, name, flags)?;
        }
        new.rename(name, old, name)?;
    }
    Ok(what)
}

fn ensure_empty(dir: &Dir, name: &OsStr) -> Result<()> {
    match dir.subdir(name)?.names()?.is_empty() {
        true => Ok(()),
        false => {
            let text =
                "it is a directory with something in it, and in the image it is none: remove \
                        it before";
            Err(Error::refused(text).at(Path::new(name)).into())
        }
    }
}
