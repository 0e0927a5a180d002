// SPDX-License-Identifier: Apache-2.0
//! An OCI image layout on disk (OCI image-spec v1.1, image-layout.md): blobs by
//! digest, and index.json with the tags.
//!
//! Somebody else may have made it: all that lies in it is opened by `host::dir`. Only `blobs` and
//! `blobs/sha256` may be links, as LXC has them.
//!
//! - this file: the layout's blobs, and locks of them;
//! - [`broken`]: images that something is wrong with;
//! - [`index`]: index.json and the tags in it;
//! - `lazy`: records of packs of which not all is there;
//! - `listing`: index.json of a layout that is somewhere else;
//! - `lock`: locks, and writing the layout's own files;
//! - [`manifest`]: the manifest of an image;
//! - `nested`: indexes among the blobs;
//! - [`platform`]: which of several images;
//! - [`pulled`]: manifests that stand for others, of which not all is there;
//! - [`reach`]: what index.json leads to;
//! - [`mod@reference`]: how the command line names an image;
//! - [`stand_in`]: an ordinary image that stands for one of ours;
//! - [`staging`]: blobs that are being written.

pub mod broken;
pub mod index;
pub(crate) mod lazy;
pub(crate) mod listing;
mod lock;
pub mod manifest;
pub(crate) mod nested;
pub mod platform;
pub mod pulled;
pub mod reach;
pub mod reference;
pub mod staging;
pub mod stand_in;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use oci_spec::image::OciLayout;
use puzzlefs_format::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::base::digest::{sha256, Hashing};
use crate::base::error::{Error, Result, Where};
use crate::base::progress::Progress;
use crate::host::dir::Dir;

pub use lock::BlobLock;
use lock::Lock;

const LAYOUT_FILE: &str = "oci-layout";
const BLOBS: &str = "blobs";
const ALGORITHM: &str = "sha256";
/// Bytes of the layout's own files that are read: index.json of 100,000 tags has half of it.
const MAX_OWN_BYTES: u64 = 64 << 20;

/// An OCI image layout.
#[derive(Clone)]
pub struct Layout {
    path: PathBuf,
    root: Arc<Dir>,
    /// blobs/sha256, once it was needed.
    blobs: Arc<OnceLock<Dir>>,
}

impl Layout {
    /// Opens an existing layout.
    pub fn open(path: &Path) -> Result<Self> {
        let no_layout = || format!("{} is no OCI layout", path.display());
        let layout = Layout {
            path: path.to_owned(),
            root: Arc::new(Dir::open(path).with_context(no_layout).at(path)?),
            blobs: Arc::default(),
        };
        let text = layout
            .own_file(LAYOUT_FILE)?
            .ok_or_else(|| Error::not_found(format!("it has no file {LAYOUT_FILE}")))
            .with_context(no_layout)
            .at(path)?;
        let file = path.join(LAYOUT_FILE);
        let value = serde_json::from_slice(&text).map_err(Error::damaged);
        let value: OciLayout = value
            .with_context(|| format!("parsing {}", file.display()))
            .at(&file)?;
        let version = value.image_layout_version();
        if !version.starts_with("1.") {
            let text = format!("{}: unknown imageLayoutVersion {version}", file.display());
            return Err(Error::trouble(text).at(&file));
        }
        Ok(layout)
    }

    /// Opens a layout, which is made where nothing or an empty directory is.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        let created = fs::create_dir_all(path);
        created
            .with_context(|| format!("creating {}", path.display()))
            .at(path)?;
        let root = Dir::open(path)
            .with_context(|| format!("opening {}", path.display()))
            .at(path)?;
        let lock = Lock::new(path, &root)?;
        let make = |dir: &Dir, name: &str| -> Result<Dir> {
            match dir.make(name) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
                _ => dir.linked(name),
            }
            .with_context(|| format!("creating {name} in {}", path.display()))
            .at(path)
        };
        let is_new = !root.has(LAYOUT_FILE)?;
        if is_new {
            // An interrupted build may have come as far as blobs.
            if root.linked(BLOBS).is_err() && !root.names()?.is_empty() {
                return Err(Error::refused(format!(
                    "{} is neither empty nor an OCI layout: name another directory",
                    path.display()
                ))
                .at(path));
            }
        }
        make(&make(&root, BLOBS)?, ALGORITHM)?;
        if is_new {
            // It says what is in use, even if the first build is interrupted: nothing.
            Self::create_index(&lock, &root)?;
            lock.replace(LAYOUT_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Self::open(path)
    }

    /// Where the layout is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a blob is, for people.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let dir = self.path.join(BLOBS).join(ALGORITHM);
        dir.join(digest.to_string())
    }

    /// The directory of the blobs.
    pub(crate) fn blob_dir(&self) -> io::Result<&Dir> {
        if let Some(dir) = self.blobs.get() {
            return Ok(dir);
        }
        let dir = self.root.linked(BLOBS)?.linked(ALGORITHM)?;
        Ok(self.blobs.get_or_init(|| dir))
    }

    /// Whether the blobs lie in the layout itself: where a link leads, others may have theirs.
    pub(crate) fn owns_blobs(&self) -> io::Result<bool> {
        match self
            .root
            .subdir(BLOBS)
            .and_then(|dir| dir.subdir(ALGORITHM))
        {
            Ok(_) => Ok(true),
            Err(e) if Errno::from_io_error(&e) == Some(Errno::LOOP) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The blobs with their sizes, in order of their digests. What has another name, or is no
    /// regular file, is somebody else's.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let list = || -> io::Result<Vec<(Digest, u64)>> {
            let mut blobs = Vec::new();
            let dir = self.blob_dir()?;
            for name in dir.names()? {
                let Ok(digest) = Digest::parse(name.as_encoded_bytes()) else {
                    continue;
                };
                let is_file = |mode| rustix::fs::FileType::from_raw_mode(mode).is_file();
                match dir.status(&name) {
                    Ok(found) if is_file(found.st_mode) && digest.to_string().as_str() == name => {
                        blobs.push((digest, u64::try_from(found.st_size).unwrap_or(0)));
                    }
                    Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            Ok(blobs)
        };
        let dir = self.path.join(BLOBS).join(ALGORITHM);
        let mut blobs = list()
            .with_context(|| format!("reading {}", dir.display()))
            .at(&dir)?;
        blobs.sort_unstable();
        Ok(blobs)
    }

    /// Whether anything has the name of this blob, whatever it is.
    pub fn names_blob(&self, digest: &Digest) -> Result<bool> {
        match self.blob_dir().and_then(|dir| dir.has(&digest.to_string())) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                let path = self.blob_path(digest);
                Err(e)
                    .with_context(|| path.display().to_string())
                    .at(&path)
                    .of(digest)
            }
            found => Ok(found.unwrap_or(false)),
        }
    }

    /// The size of a blob; `None` if it is not there.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(match self.names_blob(digest)? {
            true => Some(self.open_blob(digest)?.metadata()?.len()),
            false => None,
        })
    }

    /// Whether a blob is there, of this size and sound.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        // To read a lazy one would be to wait for all of it.
        if self.is_lazy(digest)? {
            return Ok(false);
        }
        let opened = self
            .blob_dir()
            .and_then(|dir| dir.file(&digest.to_string()));
        let mut file = match opened {
            Ok(file) => file,
            // A new file takes the place of what is none, but for a directory.
            Err(e) if e.kind() == ErrorKind::NotFound || is_no_file(&e) => return Ok(false),
            Err(e) => return Err(self.unopened(digest, e)),
        };
        if file.metadata()?.len() != size {
            return Ok(false);
        }
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut file, &mut hashing)
            .with_context(|| format!("reading the blob {}", self.blob_path(digest).display()))
            .of(digest)?;
        Ok(hashing.finish().1.digest == *digest)
    }

    /// Opens a blob, which must be a regular file: no link is followed.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let opened = self
            .blob_dir()
            .and_then(|dir| dir.file(&digest.to_string()));
        opened.map_err(|e| self.unopened(digest, e))
    }

    /// Why a blob cannot be opened, and what to do.
    fn unopened(&self, digest: &Digest, error: io::Error) -> Error {
        let hint = match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => {
                "it is a symbolic link, which no reader follows: put the file itself there"
            }
            Some(Errno::XDEV) => {
                "something is mounted there, which no reader takes: put the file itself there"
            }
            Some(Errno::INVAL) => "it is no regular file",
            Some(Errno::NOENT) => "was the image copied completely?",
            _ => "it was not looked at",
        };
        let path = self.blob_path(digest);
        let text = format!(
            "cannot open the blob sha256:{digest} ({}); {hint}",
            path.display()
        );
        Error::from(error).context(text).at(&path).of(digest)
    }

    /// Reads a blob of at most `limit` bytes and checks its digest.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut content = Vec::new();
        self.open_blob(digest)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .with_context(|| format!("reading the blob {}", path.display()))
            .at(&path)
            .of(digest)?;
        let damaged = |text: String| Err(Error::damaged(text).at(&path).of(digest));
        if u64::try_from(content.len())? > limit {
            return damaged(format!(
                "the blob sha256:{digest} is larger than the limit of {limit} bytes"
            ));
        }
        let found = sha256(&[&content]);
        if found != *digest {
            return damaged(format!(
                "the blob sha256:{digest} is damaged: its content has the digest sha256:{found}; \
                 delete {} and copy or build the image again",
                path.display()
            ));
        }
        Ok(content)
    }

    /// Removes a blob.
    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<()> {
        let removed = self
            .blob_dir()
            .and_then(|dir| dir.remove(digest.to_string()));
        let path = self.blob_path(digest);
        removed
            .with_context(|| format!("removing {}", path.display()))
            .at(&path)
            .of(digest)?;
        self.forget_lazy(digest)
    }

    /// One of the layout's own files; `None` if it is not there.
    fn own_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let context = || format!("reading {}", path.display());
        let file = match self.root.file(name) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if is_no_file(&e) => {
                let error = Error::from(e).context("it is no regular file");
                return Err(error.context(context()).at(&path));
            }
            file => file.with_context(context).at(&path)?,
        };
        let mut text = Vec::new();
        file.take(MAX_OWN_BYTES + 1)
            .read_to_end(&mut text)
            .with_context(context)
            .at(&path)?;
        if text.len() as u64 > MAX_OWN_BYTES {
            let text = format!("{}: it has more than {MAX_OWN_BYTES} bytes", context());
            return Err(Error::trouble(text).at(&path));
        }
        Ok(Some(text))
    }

    /// Keeps all blobs from being removed by garbage collection as long as the result lives: those
    /// too that nothing refers to yet. Any number of builds may have it at the same time.
    pub fn keep_blobs(&self, progress: &dyn Progress) -> Result<BlobLock> {
        self.lock_blobs(FlockOperation::LockShared, progress)
    }

    /// Keeps others from adding blobs, and from relying on those that nothing refers to.
    pub fn own_blobs(&self, progress: &dyn Progress) -> Result<BlobLock> {
        self.lock_blobs(FlockOperation::LockExclusive, progress)
    }

    /// Keeps others from making lazy packs: of two that did it at once, one would replace what the other one has begun to
    /// fill.
    pub(crate) fn alone_lazy(&self, progress: &dyn Progress) -> Result<BlobLock> {
        let dir = self.blob_dir().and_then(Dir::readable);
        self.lock(dir, FlockOperation::LockExclusive, progress)
    }

    fn lock_blobs(&self, operation: FlockOperation, progress: &dyn Progress) -> Result<BlobLock> {
        // Not the directory that `Lock` takes, which is for moments only.
        let dir = self.root.linked(BLOBS).and_then(|dir| dir.readable());
        self.lock(dir, operation, progress)
    }

    fn lock(
        &self,
        dir: io::Result<OwnedFd>,
        operation: FlockOperation,
        progress: &dyn Progress,
    ) -> Result<BlobLock> {
        let context = || format!("locking {}", self.path.join(BLOBS).display());
        let dir = dir.with_context(context).at(&self.path)?;
        let try_first = match operation {
            FlockOperation::LockShared => FlockOperation::NonBlockingLockShared,
            _ => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&dir, try_first) {
            Err(Errno::WOULDBLOCK) => {
                progress
                    .note("waiting for another puzzlefs, which builds or collects garbage here");
                rustix::fs::flock(&dir, operation)
            }
            result => result,
        }
        .with_context(context)
        .at(&self.path)?;
        Ok(BlobLock(dir))
    }
}

/// Whether there is something else in the place of a file.
fn is_no_file(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::LOOP | Errno::XDEV | Errno::INVAL))
}
