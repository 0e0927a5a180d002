// SPDX-License-Identifier: Apache-2.0
//! Writing blobs into an OCI layout so that a crash leaves no half-written one.
//!
//! Blobs are first written into a staging directory inside the layout. Then, for
//! thousands of blobs, one syncfs(2) brings all their data and inodes to disk (an
//! fsync(2) each would cost seconds); only after it has succeeded each is renamed to
//! its final name, and fsync(2) of the directory makes the names durable. So, after a
//! crash at any moment, a file under its final name has its whole content. The index
//! is replaced last. syncfs reports write errors since Linux 5.8.
//!
//! The staging directory is locked (flock(2)) by its build; the next build removes
//! the ones whose lock is free, which a killed build left behind, and so does `puzzlefs gc`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use anyhow::{bail, Context, Result};
use puzzlefs_format::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::base::cleanup;
use crate::base::digest::{Blob, Hashing};
use crate::layout::Layout;

const PREFIX: &str = ".puzzlefs-build-";

/// Blobs on their way into a layout. Dropped before [`Staging::commit`] it leaves
/// the layout as it was.
pub struct Staging<'a> {
    layout: &'a Layout,
    path: PathBuf,
    /// Holds the lock.
    _lock: OwnedFd,
    _removed_on_signal: cleanup::Guard,
    staged: Mutex<Vec<Digest>>,
    bytes: AtomicU64,
    drafts: AtomicU64,
}

/// A blob that is being written.
pub struct Draft {
    path: PathBuf,
    out: Hashing<BufWriter<File>>,
}

impl Draft {
    /// Also measures the fs-verity digest of what is written from now on.
    pub fn measure(&mut self) {
        self.out.measure();
    }
}

impl Write for Draft {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a commit added.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added {
    /// Blobs that the layout did not have.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl<'a> Staging<'a> {
    /// Opens a staging directory, and removes those of builds that died.
    pub fn new(layout: &'a Layout) -> Result<Self> {
        remove_abandoned(layout.path(), false);
        let mut attempt = 0u32;
        loop {
            let path = layout
                .path()
                .join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {
                    attempt += 1;
                    continue;
                }
                Err(e) => bail!("cannot write to the layout: {}: {e}", path.display()),
            }
            // Another build may take the new directory for an abandoned one, before the lock.
            match lock(&path) {
                Ok(lock) if path.exists() => {
                    let (staged, bytes, drafts) = Default::default();
                    let own = path.clone();
                    let removal = cleanup::on_signal(move || cleanup::remove_dir(&own));
                    return Ok(Staging {
                        layout,
                        path,
                        _lock: lock,
                        _removed_on_signal: removal,
                        staged,
                        bytes,
                        drafts,
                    });
                }
                _ => attempt += 1,
            }
        }
    }

    /// Stages a blob of the given bytes, unless the layout has it.
    pub fn put(&self, digest: &Digest, content: &[u8]) -> Result<()> {
        let size = u64::try_from(content.len())?;
        if self.layout.has_blob(digest, size)? {
            return Ok(());
        }
        let path = self.path.join(digest.to_string());
        match File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(content)
                    .with_context(|| format!("writing {}", path.display()))?;
                self.note(*digest, size);
                Ok(())
            }
            // Two chunks with equal stored bytes.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e).with_context(|| format!("creating {}", path.display())),
        }
    }

    /// Stages a blob that `fill` writes.
    pub fn put_with(&self, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Blob> {
        let mut draft = self.begin()?;
        draft.measure();
        fill(&mut draft)?;
        self.end(draft)
    }

    /// Begins a blob whose name will be known at its end.
    pub fn begin(&self) -> Result<Draft> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("draft-{number}"));
        let file =
            File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
        let out = Hashing::new(BufWriter::new(file));
        Ok(Draft { path, out })
    }

    /// Stages what has been written, unless the layout has it.
    pub fn end(&self, draft: Draft) -> Result<Blob> {
        let Draft { path, out } = draft;
        let (mut file, blob) = out.finish();
        file.flush()
            .with_context(|| format!("writing {}", path.display()))?;
        let to = self.path.join(blob.digest.to_string());
        // Staged already: one file named twice would be one too few at the commit.
        if to.exists() || self.layout.has_blob(&blob.digest, blob.size)? {
            fs::remove_file(&path)?;
        } else {
            fs::rename(&path, to)?;
            self.note(blob.digest, blob.size);
        }
        Ok(blob)
    }

    /// The layout that all goes to.
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    fn note(&self, digest: Digest, size: u64) {
        self.bytes.fetch_add(size, Ordering::Relaxed);
        // A panic elsewhere cannot leave the list half-changed.
        self.staged
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(digest);
    }

    /// Gives all staged blobs their final names, durably.
    pub fn commit(&self) -> Result<Added> {
        let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(|e| e.into_inner()));
        let dir = File::open(self.layout.blob_dir())?;
        rustix::fs::syncfs(&dir).context("syncfs of the layout")?;
        for digest in &staged {
            let to = self.layout.blob_path(digest);
            fs::rename(self.path.join(digest.to_string()), &to)
                .with_context(|| format!("naming the blob {}", to.display()))?;
        }
        dir.sync_all().context("fsync of blobs/sha256")?;
        Ok(Added {
            blobs: u64::try_from(staged.len())?,
            bytes: self.bytes.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // If it fails, the next build cleans up.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    Ok(fd)
}

/// Removes what killed builds left in a layout; says how many bytes.
pub fn remove_abandoned(layout: &Path, dry_run: bool) -> u64 {
    let entries = fs::read_dir(layout).into_iter().flatten().flatten();
    let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    let mut bytes = 0;
    for path in entries
        .filter(|entry| ours(&entry.file_name()))
        .map(|entry| entry.path())
    {
        if let Ok(_held) = lock(&path) {
            let files = fs::read_dir(&path).into_iter().flatten().flatten();
            bytes += files
                .filter_map(|file| Some(file.metadata().ok()?.len()))
                .sum::<u64>();
            if !dry_run {
                // Only rubbish: a failure leaves it to the next build.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
    bytes
}
