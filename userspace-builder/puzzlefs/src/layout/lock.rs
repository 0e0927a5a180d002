// SPDX-License-Identifier: Apache-2.0
//! Locks of a layout, and writing its own files, index.json above all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, Gid, Mode, Stat, Uid};

use crate::base::cleanup::{self, Guard};
use crate::base::digest::hex;
use crate::host::dir::Dir;

/// What the names of new versions begin with.
const TEMPORARY: &str = ".puzzlefs-new";

/// What [`super::Layout::keep_blobs`] and [`super::Layout::own_blobs`] give: a flock(2) of the directory
/// `blobs`, until it is dropped.
pub struct BlobLock(#[allow(dead_code, reason = "it is held, not used")] pub(super) OwnedFd);

/// The right to change a layout's own files, until it is dropped. It is a flock(2) of the
/// directory itself, which leaves no file behind that other tools would have to know.
pub(super) struct Lock<'a> {
    path: &'a Path,
    root: &'a Dir,
    held: OwnedFd,
}

impl<'a> Lock<'a> {
    /// Waits for it. `path` is where `root` is, for people.
    pub(super) fn new(path: &'a Path, root: &'a Dir) -> Result<Self> {
        let context = || format!("locking {}", path.display());
        let held = root.readable().with_context(context)?;
        rustix::fs::flock(&held, FlockOperation::LockExclusive).with_context(context)?;
        Ok(Lock { path, root, held })
    }

    /// Replaces a file, atomically and durably. Owner, group and mode stay as they were, as far
    /// as the caller may give them.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        // Who holds the lock is the only one who writes such files: these are left over.
        let _ = self.remove_temporary(false);
        let write = || -> io::Result<()> {
            let (temporary, mut file, _removed_on_signal) = self.create()?;
            let written = self.root.status(name).ok().map(|old| resemble(&file, &old));
            let written = written
                .unwrap_or(Ok(()))
                .and_then(|()| file.write_all(content))
                .and_then(|()| file.sync_all())
                .and_then(|()| self.root.rename(&temporary, self.root, name));
            if written.is_err() {
                let _ = self.root.remove(&temporary);
            }
            written?;
            Ok(rustix::fs::fsync(&self.held)?)
        };
        write().with_context(|| format!("writing {}", self.path.join(name).display()))
    }

    /// A new file of a name that nobody can have foreseen. It is removed if a signal comes.
    fn create(&self) -> io::Result<(String, File, Guard)> {
        loop {
            let mut random = [0; 8];
            rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
            let name = format!("{TEMPORARY}-{}", hex(&random));
            let (root, half_made) = (self.root.try_clone()?, name.clone());
            let remove = move || drop(root.remove(half_made));
            match cleanup::make(|| self.root.create(&name), remove) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                made => return made.map(|(file, guard)| (name, file, guard)),
            }
        }
    }

    /// Removes what killed commands left; says how many bytes.
    pub(super) fn remove_temporary(&self, dry_run: bool) -> Result<u64> {
        let context = || format!("reading {}", self.path.display());
        let names = self.root.names().with_context(context)?;
        let ours = |name: &OsString| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
        let mut bytes = 0;
        for name in names.into_iter().filter(ours) {
            let Ok(found) = self.root.status(&name) else {
                continue;
            };
            let path = self.path.join(&name);
            if !dry_run {
                let removed = self.root.remove(&name);
                removed.with_context(|| format!("removing {}", path.display()))?;
            }
            bytes += u64::try_from(found.st_size).unwrap_or(0);
        }
        Ok(bytes)
    }
}

/// Gives a new file the owner, the group and the permissions of the `old` one. What may not be
/// set is not, and then no other group gets the rights of the old one.
fn resemble(file: &File, old: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
    let mut mode = old.st_mode & 0o777;
    if !rustix::fs::FileType::from_raw_mode(old.st_mode).is_file() {
        return Ok(());
    }
    let fd = file.as_fd();
    if rustix::fs::fchown(fd, Some(uid), Some(gid)).is_err()
        && rustix::fs::fchown(fd, None, Some(gid)).is_err()
    {
        mode = (mode & !0o070) | ((mode & 0o007) << 3);
    }
    Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?)
}
