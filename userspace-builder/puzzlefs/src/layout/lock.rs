// SPDX-License-Identifier: Apache-2.0
//! Locks of a layout, and replacing its own files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

use crate::base::cleanup;

/// A new version of one of the layout's own files.
const TEMPORARY: &str = ".puzzlefs-new";

/// What [`super::Layout::keep_blobs`] and [`super::Layout::own_blobs`] give: a flock(2) of the directory
/// `blobs`, until it is dropped.
pub struct BlobLock(#[allow(dead_code, reason = "it is held, not used")] pub(super) File);

/// The right to change a layout's own files, until it is dropped. It is a flock(2) of the
/// directory itself, which leaves no file behind that other tools would have to know.
pub(super) struct Lock<'a> {
    path: &'a Path,
    dir: File,
}

impl<'a> Lock<'a> {
    pub(super) fn new(path: &'a Path) -> Result<Self> {
        let dir = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive)
            .with_context(|| format!("locking {}", path.display()))?;
        Ok(Lock { path, dir })
    }

    /// Removes what a killed build left of a new file; says how many bytes.
    pub(super) fn remove_temporary(&self, dry_run: bool) -> Result<u64> {
        let path = self.path.join(TEMPORARY);
        let Ok(found) = fs::symlink_metadata(&path) else {
            return Ok(0);
        };
        if !dry_run {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(found.len())
    }

    /// Replaces a file, atomically and durably.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let to = self.path.join(name);
        // Only who holds the lock writes it; a killed build's is written over.
        let temporary = self.path.join(TEMPORARY);
        let half_made = temporary.clone();
        let guard = cleanup::on_signal(move || drop(fs::remove_file(half_made)));
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &to)?;
            self.dir.sync_all()
        };
        let written = write();
        drop(guard);
        written.with_context(|| format!("writing {}", to.display()))
    }
}
