// SPDX-License-Identifier: Apache-2.0
//! An OCI image layout on disk (OCI image-spec v1.1, image-layout.md): blobs by
//! digest, and index.json with the tags.
//!
//! - this file: the layout and its blobs;
//! - `index`: index.json and the tags in it;
//! - `lock`: locks, and replacing files;
//! - [`manifest`]: the manifest of an image;
//! - [`reach`]: what index.json leads to;
//! - [`mod@reference`]: how the command line names an image;
//! - [`staging`]: blobs that are being written.

mod index;
mod lock;
pub mod manifest;
pub mod reach;
pub mod reference;
pub mod staging;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::Value;

use crate::base::digest::{sha256, Hashing};
use crate::base::error::Failure;
use crate::base::progress::Progress;

pub use lock::BlobLock;
use lock::Lock;

const LAYOUT_FILE: &str = "oci-layout";

/// An OCI image layout.
#[derive(Clone)]
pub struct Layout {
    path: PathBuf,
}

impl Layout {
    /// Opens an existing layout.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(LAYOUT_FILE);
        let text = fs::read(&file).with_context(|| {
            format!(
                "{} is no OCI layout: cannot read {LAYOUT_FILE}",
                path.display()
            )
        })?;
        let value: Value =
            serde_json::from_slice(&text).with_context(|| format!("parsing {}", file.display()))?;
        let version = value["imageLayoutVersion"].as_str().unwrap_or("none");
        ensure!(
            version.starts_with("1."),
            "{}: unknown imageLayoutVersion {version}",
            file.display()
        );
        Ok(Layout {
            path: path.to_owned(),
        })
    }

    /// Opens a layout, which is made where nothing or an empty directory is.
    pub fn open_or_create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        let lock = Lock::new(path)?;
        let blobs = path.join("blobs");
        if !path.join(LAYOUT_FILE).exists() {
            // An interrupted build may have come as far as blobs.
            ensure!(
                blobs.is_dir() || fs::read_dir(path)?.next().is_none(),
                "{} is neither empty nor an OCI layout: name another directory",
                path.display()
            );
            fs::create_dir_all(&blobs).with_context(|| format!("creating {}", blobs.display()))?;
            // It says what is in use, even if the first build is interrupted: nothing.
            Self::create_index(&lock, path)?;
            lock.replace(LAYOUT_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let blobs = blobs.join("sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("creating {}", blobs.display()))?;
        Self::open(path)
    }

    /// Where the layout is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the blobs.
    pub fn blob_dir(&self) -> PathBuf {
        self.path.join("blobs/sha256")
    }

    /// The file of a blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_dir().join(digest.to_string())
    }

    /// Whether a blob is there, of this size and sound.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() || found.len() != size => Ok(false),
            Ok(_) => {
                let mut hashing = Hashing::new(io::sink());
                io::copy(&mut self.open_blob(digest)?, &mut hashing)
                    .with_context(|| format!("reading the blob {}", path.display()))?;
                Ok(hashing.finish().1.digest == *digest)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).with_context(|| format!("looking for the blob {}", path.display())),
        }
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).with_context(|| {
            format!(
                "cannot open the blob sha256:{digest} ({}); was the image copied completely?",
                path.display()
            )
        })
    }

    /// Reads a blob of at most `limit` bytes and checks its digest.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut content = Vec::new();
        self.open_blob(digest)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .with_context(|| format!("reading the blob {}", path.display()))?;
        ensure!(
            u64::try_from(content.len())? <= limit,
            "the blob sha256:{digest} is larger than the limit of {limit} bytes"
        );
        let found = sha256(&[&content]);
        if found != *digest {
            return Err(Failure::Damaged.error(format!(
                "the blob sha256:{digest} is damaged: its content has the digest sha256:{found}; \
                 delete {} and copy or build the image again",
                path.display()
            )));
        }
        Ok(content)
    }

    /// Keeps all blobs from being removed by garbage collection as long as the result lives: those
    /// too that nothing refers to yet. Any number of builds may have it at the same time.
    pub fn keep_blobs(&self, progress: &dyn Progress) -> Result<BlobLock> {
        self.lock_blobs(FlockOperation::LockShared, progress)
    }

    /// Removes what a killed build left of a new index.json; says how many bytes.
    pub fn remove_temporary(&self, dry_run: bool) -> Result<u64> {
        Lock::new(&self.path)?.remove_temporary(dry_run)
    }

    /// Keeps others from adding blobs, and from relying on those that nothing refers to.
    pub fn own_blobs(&self, progress: &dyn Progress) -> Result<BlobLock> {
        self.lock_blobs(FlockOperation::LockExclusive, progress)
    }

    fn lock_blobs(&self, operation: FlockOperation, progress: &dyn Progress) -> Result<BlobLock> {
        // Not the directory that `Lock` takes, which is for moments only.
        let path = self.path.join("blobs");
        let context = || format!("locking {}", path.display());
        let dir = File::open(&path).with_context(context)?;
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
        .with_context(context)?;
        Ok(BlobLock(dir))
    }

    /// The blobs with their sizes, in order of their digests.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let dir = self.blob_dir();
        let list = || -> io::Result<Vec<(Digest, u64)>> {
            let mut blobs = Vec::new();
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let found = entry.metadata()?;
                // What has another name is somebody else's.
                if let (true, Ok(digest)) = (
                    found.is_file(),
                    Digest::parse(entry.file_name().as_encoded_bytes()),
                ) {
                    blobs.push((digest, found.len()));
                }
            }
            Ok(blobs)
        };
        let mut blobs = list().with_context(|| format!("reading {}", dir.display()))?;
        blobs.sort_unstable();
        Ok(blobs)
    }
}
