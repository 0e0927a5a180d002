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
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use anyhow::Context;
use puzzlefs_format::Digest;
use rustix::fs::FlockOperation;

use crate::base::cleanup;
use crate::base::digest::{Blob, Hashing};
use crate::base::error::{Error, Result, Where};
use crate::host::dir::Dir;
use crate::layout::Layout;

const PREFIX: &str = ".puzzlefs-build-";

/// Blobs on their way into a layout. Dropped before [`Staging::commit`] it leaves
/// the layout as it was.
pub struct Staging<'a> {
    layout: &'a Layout,
    /// The directory, and where it has which name.
    dir: Dir,
    home: &'a Dir,
    name: String,
    /// Holds the lock.
    _lock: OwnedFd,
    _removed_on_signal: cleanup::Guard,
    staged: Mutex<Vec<Digest>>,
    /// Those of them that have the digests that their names say.
    whole: Mutex<Vec<Digest>>,
    blobs: AtomicU64,
    bytes: AtomicU64,
    drafts: AtomicU64,
}

/// A blob that is being written.
pub struct Draft {
    name: String,
    out: Hashing<BufWriter<File>>,
}

/// A blob that was written, and has no name yet.
struct Written {
    name: String,
    file: BufWriter<File>,
}

impl Draft {
    fn finish(self) -> (Blob, Written) {
        let Draft { name, out } = self;
        let (file, blob) = out.finish();
        (blob, Written { name, file })
    }

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

/// What the commits added so far.
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
        remove_abandoned(layout, false);
        let context = || format!("cannot write to the layout {}", layout.path().display());
        let home = home(layout).with_context(context)?;
        let mut attempt = 0u32;
        loop {
            let name = format!("{PREFIX}{}-{attempt}", std::process::id());
            attempt += 1;
            let (outer, own) = (home.try_clone().with_context(context)?, name.clone());
            let remove = move || outer.remove_busy(&own);
            let removal = match cleanup::make(|| home.make(&name), remove) {
                Ok(((), guard)) => guard,
                Err(e) if e.kind() == ErrorKind::AlreadyExists && attempt < 1000 => continue,
                Err(e) => return Err(Error::from(e).context(context())),
            };
            // Another build may take the new directory for an abandoned one, before the lock.
            let dir = match home.subdir(&name) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                dir => dir.with_context(context)?,
            };
            if let (Ok(lock), true) = (lock(&dir), home.has(&name)?) {
                let (staged, whole, blobs, bytes, drafts) = Default::default();
                return Ok(Staging {
                    layout,
                    dir,
                    home,
                    name,
                    _lock: lock,
                    _removed_on_signal: removal,
                    staged,
                    whole,
                    blobs,
                    bytes,
                    drafts,
                });
            }
        }
    }

    /// Stages a blob of the given bytes, unless the layout has it.
    pub fn put(&self, digest: &Digest, content: &[u8]) -> Result<()> {
        let size = u64::try_from(content.len())?;
        if self.layout.has_blob(digest, size)? {
            return Ok(());
        }
        let context = || format!("writing the blob sha256:{digest}");
        match self.dir.create(&digest.to_string()) {
            Ok(mut file) => {
                file.write_all(content).with_context(context)?;
                self.note(*digest, size);
                Ok(())
            }
            // Two chunks with equal stored bytes.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e).with_context(context).of(digest),
        }
    }

    /// Stages a blob that `fill` writes.
    pub fn put_with(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> Result<Blob> {
        let mut draft = self.begin()?;
        draft.measure();
        fill(&mut draft)?;
        self.end(draft)
    }

    /// Begins a blob whose name will be known at its end.
    pub fn begin(&self) -> Result<Draft> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let name = format!("draft-{number}");
        let file = self.dir.create(&name).context("writing a blob")?;
        let out = Hashing::new(BufWriter::new(file));
        Ok(Draft { name, out })
    }

    /// Stages what has been written, unless the layout has it.
    pub fn end(&self, draft: Draft) -> Result<Blob> {
        let (blob, draft) = draft.finish();
        self.name(blob, draft)
    }

    fn name(&self, blob: Blob, written: Written) -> Result<Blob> {
        let Written { name, mut file } = written;
        let context = || format!("writing the blob sha256:{}", blob.digest);
        file.flush().with_context(context)?;
        let to = blob.digest.to_string();
        // Staged already: one file named twice would be one too few at the commit.
        if self.dir.has(&to)? || self.layout.has_blob(&blob.digest, blob.size)? {
            self.dir.remove(&name).with_context(context)?;
        } else {
            self.dir
                .rename(&name, &self.dir, &to)
                .with_context(context)?;
            self.note(blob.digest, blob.size);
        }
        Ok(blob)
    }

    /// Stages what has been written if it is what it should be, and else forgets it.
    pub fn end_if(&self, draft: Draft, is_it: impl FnOnce(&Blob) -> bool) -> Result<Option<Blob>> {
        let (blob, draft) = draft.finish();
        match is_it(&blob) {
            true => self.name(blob, draft).map(Some),
            false => {
                self.dir.remove(&draft.name)?;
                Ok(None)
            }
        }
    }

    /// Stages a file of `size` bytes of which only `end` is there, its last bytes, under the name of the pack that it is
    /// to be. The pack must have a record that says so.
    pub(crate) fn put_lazy(&self, pack: &Digest, size: u64, end: &[u8]) -> Result<()> {
        let context = || format!("writing the lazy pack sha256:{pack}");
        let file = self.dir.create(&pack.to_string()).with_context(context)?;
        let write = || -> io::Result<()> {
            file.set_len(size)?;
            file.write_all_at(end, size - end.len() as u64)
        };
        write().with_context(context).of(pack)?;
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(end.len() as u64, Ordering::Relaxed);
        let mut staged = self.staged.lock().unwrap_or_else(|e| e.into_inner());
        staged.push(*pack);
        Ok(())
    }

    /// Forgets what has been written.
    pub fn discard(&self, draft: Draft) -> Result<()> {
        Ok(self.dir.remove(&draft.name)?)
    }

    /// An empty file for what is needed for some time only: it has no name any more.
    pub fn scratch(&self) -> Result<File> {
        let context = || format!("writing into {}", self.layout.path().display());
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let name = format!("scratch-{number}");
        let file = self.dir.create_both(&name).with_context(context)?;
        self.dir.remove(&name).with_context(context)?;
        Ok(file)
    }

    /// The layout that all goes to.
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Whether the layout has all that was given.
    pub fn is_empty(&self) -> bool {
        let staged = self.staged.lock().unwrap_or_else(|e| e.into_inner());
        staged.is_empty()
    }

    fn note(&self, digest: Digest, size: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        // A panic elsewhere cannot leave a list half-changed.
        for list in [&self.staged, &self.whole] {
            list.lock().unwrap_or_else(|e| e.into_inner()).push(digest);
        }
    }

    /// Gives all staged blobs their final names, durably.
    pub fn commit(&self) -> Result<Added> {
        let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(|e| e.into_inner()));
        let blobs = self.layout.blob_dir()?;
        let dir = blobs.readable()?;
        rustix::fs::syncfs(&dir).context("syncfs of the layout")?;
        for digest in &staged {
            let name = digest.to_string();
            let named = self.dir.rename(&name, blobs, &name);
            named.with_context(|| {
                format!(
                    "naming the blob {}",
                    self.layout.blob_path(digest).display()
                )
            })?;
        }
        let whole = std::mem::take(&mut *self.whole.lock().unwrap_or_else(|e| e.into_inner()));
        // A lazy one of the same name is replaced: who has that open goes on with it.
        whole
            .iter()
            .try_for_each(|digest| self.layout.forget_lazy(digest))?;
        rustix::fs::fsync(&dir).context("fsync of blobs/sha256")?;
        Ok(Added {
            blobs: self.blobs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // If it fails, the next build cleans up.
        let _ = self.home.remove_flat(&self.name);
    }
}

/// Where staging directories are: in the layout, or else beside the blobs, if a link has led to
/// another filesystem and nothing can be renamed from there.
fn home(layout: &Layout) -> io::Result<&Dir> {
    let blobs = layout.blob_dir()?;
    let is_beside = layout.root.is_beside(blobs)?;
    Ok(if is_beside { &layout.root } else { blobs })
}

fn lock(dir: &Dir) -> io::Result<OwnedFd> {
    let fd = dir.readable()?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    Ok(fd)
}

/// Removes what killed builds left in a layout; says how many bytes.
pub fn remove_abandoned(layout: &Layout, dry_run: bool) -> u64 {
    let in_root = abandoned_in(&layout.root, dry_run);
    in_root
        + layout
            .blob_dir()
            .map_or(0, |dir| abandoned_in(dir, dry_run))
}

fn abandoned_in(home: &Dir, dry_run: bool) -> u64 {
    let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    let mut bytes = 0;
    for name in home.names().into_iter().flatten().filter(|name| ours(name)) {
        let Ok(dir) = home.subdir(&name) else {
            continue;
        };
        if let Ok(_held) = lock(&dir) {
            let files = dir.names().into_iter().flatten();
            let sizes = files.filter_map(|file| dir.status(file).ok());
            bytes += sizes
                .map(|found| u64::try_from(found.st_size).unwrap_or(0))
                .sum::<u64>();
            if !dry_run {
                // Only rubbish: a failure leaves it to the next build.
                let _ = home.remove_flat(&name);
            }
        }
    }
    bytes
}
