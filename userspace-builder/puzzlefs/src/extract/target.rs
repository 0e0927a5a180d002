// SPDX-License-Identifier: Apache-2.0
//! The directory that an image is extracted into: as it was before, or with all of the image.
//!
//! Everything is made in a directory within it, and moved up at the end. If that fails, or a
//! signal comes, the inner directory is removed; one that a killed run left, the next run removes.
//! A directory that has something else is taken only if that is wanted.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::base::cleanup;
use crate::base::error::Error;
use crate::base::text;
use crate::extract::kept::Kept;
use crate::extract::merge::{self, Merged};
use crate::host::dir::Dir;
use crate::host::xattr::remove_acls;
use crate::image::Image;

const PREFIX: &str = ".puzzlefs-extract-";

/// The directory, and the one within it.
pub(super) struct Target {
    path: PathBuf,
    /// Whether it was made here.
    is_new: bool,
    /// Whether it may have something already.
    merges: bool,
    pub(super) dir: OwnedFd,
    inner_path: PathBuf,
    pub(super) inner: OwnedFd,
    removed_on_signal: Option<cleanup::Guard>,
    moved: Vec<PathBuf>,
    is_done: bool,
}

impl Target {
    /// `path` is new, or empty but for what killed runs left; or anything, if it `merges`.
    pub(super) fn new(path: &Path, image: &Image, merges: bool) -> Result<Self> {
        let shown = || text::path(path);
        let is_new = match fs::create_dir(path) {
            Ok(()) => true,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
            Err(e) => return Err(e).with_context(|| format!("creating {}", shown())),
        };
        let made = Self::within(path, is_new, image, merges);
        if made.is_err() && is_new {
            let _ = fs::remove_dir(path);
        }
        made
    }

    fn within(path: &Path, is_new: bool, image: &Image, merges: bool) -> Result<Self> {
        let dir = open(path).with_context(|| text::path(path))?;
        for entry in fs::read_dir(path).with_context(|| text::path(path))? {
            let entry = entry?;
            let is_ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
            let held = is_ours.then(|| lock(&entry.path()));
            if held.is_none_or(|held| held.is_err()) {
                if merges {
                    continue;
                }
                let text = format!(
                    "{} is not empty: name a new directory, or use --force to extract into it",
                    text::path(path)
                );
                return Err(Error::refused(text).at(path).into());
            }
            let left = entry.path();
            fs::remove_dir_all(&left)
                .with_context(|| format!("removing {}, of a killed run", text::path(&left)))?;
        }
        let mut number = std::process::id();
        // The image may have a directory of that name itself.
        let is_taken = |name: &str| {
            image.lookup(name.as_bytes()).is_ok() || fs::symlink_metadata(path.join(name)).is_ok()
        };
        while is_taken(&format!("{PREFIX}{number}")) {
            number = number.wrapping_add(1);
        }
        let inner_path = path.join(format!("{PREFIX}{number}"));
        let context = || format!("creating {}", text::path(&inner_path));
        let (removed, outer) = (inner_path.clone(), is_new.then(|| path.to_owned()));
        let remove = move || {
            cleanup::remove_dir(&removed);
            outer.map(fs::remove_dir);
        };
        let made = cleanup::make(|| fs::create_dir(&inner_path), remove);
        let ((), removed_on_signal) = made.with_context(context)?;
        let inner = lock(&inner_path).with_context(context)?;
        let target = Target {
            path: path.to_owned(),
            is_new,
            merges,
            dir,
            inner_path,
            inner,
            removed_on_signal: Some(removed_on_signal),
            moved: Vec::new(),
            is_done: false,
        };
        // Whatever it has of its surroundings, what is made in it is not to have.
        remove_acls(&target.inner).context("the access control list of a new directory")?;
        rustix::fs::fchmod(&target.inner, Mode::RWXU).context("the mode of a new directory")?;
        Ok(target)
    }

    /// Moves all up, and does `last`, after which it is done. No signal comes between.
    pub(super) fn finish(
        mut self,
        kept: &Kept,
        last: impl FnOnce(&OwnedFd, &Merged) -> Result<()>,
    ) -> Result<()> {
        let guard = self.removed_on_signal.take();
        let work = || -> Result<()> {
            if self.merges {
                let (from, to) = (Dir::from(&self.inner)?, Dir::from(&self.dir)?);
                let context = || format!("extracting into {}", text::path(&self.path));
                let mut merged = merge::merge(&from, &to, kept).with_context(context)?;
                if !self.is_new {
                    merged.dirs.insert(PathBuf::new());
                }
                // Directories are left that were there, too.
                fs::remove_dir_all(&self.inner_path)?;
                return last(&self.dir, &merged);
            }
            for entry in fs::read_dir(&self.inner_path)? {
                let name = entry?.file_name();
                rustix::fs::renameat(&self.inner, &name, &self.dir, &name)
                    .with_context(|| format!("naming {}", text::quoted(name.as_bytes())))?;
                self.moved.push(self.path.join(name));
            }
            fs::remove_dir(&self.inner_path)?;
            last(&self.dir, &Merged::default())
        };
        match guard {
            Some(guard) => guard.finish(work)?,
            None => work()?,
        }
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // What cannot be removed now, the next run removes.
        let _ = fs::remove_dir_all(&self.inner_path);
        for path in &self.moved {
            let _ = fs::remove_dir_all(path);
        }
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens a directory that only one process at a time works in.
fn lock(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    Ok(dir)
}
