// SPDX-License-Identifier: Apache-2.0
//! An OCI image layout on disk (OCI image-spec v1.1, image-layout.md): blobs by
//! digest, and index.json with the tags.
//!
//! - this file: the layout's own files, blobs and locks;
//! - [`manifest`]: the manifest of an image;
//! - [`reach`]: what index.json leads to;
//! - [`mod@reference`]: how the command line names an image;
//! - [`staging`]: blobs that are being written.

pub mod manifest;
pub mod reach;
pub mod reference;
pub mod staging;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::{json, Value};

use crate::base::digest::{sha256, Hashing};
use crate::base::progress::Progress;
use crate::base::text;
use crate::layout::manifest::{Descriptor, ARTIFACT_TYPE};

const LAYOUT_FILE: &str = "oci-layout";
/// A new version of one of the layout's own files.
const TEMPORARY: &str = ".puzzlefs-new";
const INDEX_FILE: &str = "index.json";
const MEDIA_TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Annotation of an index entry that holds its tag (OCI image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

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
        ensure!(
            found == *digest,
            "the blob sha256:{digest} is damaged: its content has the digest sha256:{found}; \
             delete {} and copy or build the image again",
            path.display()
        );
        Ok(content)
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

    /// The manifest descriptor that `tag` names.
    pub fn resolve(&self, tag: &str) -> Result<Descriptor> {
        let index = self.index()?.unwrap_or_default();
        let entries = entries(&index);
        let Some(entry) = entries.iter().find(|e| tag_of(e) == Some(tag)) else {
            let tags = entries.iter().filter_map(tag_of);
            let tags: Vec<String> = tags.map(|tag| text::quoted(tag.as_bytes())).collect();
            bail!(
                "{} has no tag {tag}; it has: {}",
                self.path.display(),
                tags.join(" ")
            );
        };
        let digest = entry["digest"].as_str().unwrap_or_default();
        ensure!(
            entry["mediaType"] == MEDIA_TYPE_MANIFEST,
            "tag {tag} is no OCI image manifest but {}",
            entry["mediaType"]
        );
        let digest = Digest::parse(digest.as_bytes())
            .map_err(|e| anyhow::anyhow!("index.json: tag {tag}: digest {digest:?}: {e}"))?;
        let size = entry["size"]
            .as_u64()
            .context("index.json: a descriptor without size")?;
        Ok(Descriptor::new(MEDIA_TYPE_MANIFEST, digest, size))
    }

    /// Lets `tag` name `manifest` from now on, and leaves all other entries as they
    /// are. The change is atomic and durable; concurrent builds wait for each other.
    pub fn set_tag(&self, tag: &str, manifest: &Digest, size: u64) -> Result<()> {
        let lock = Lock::new(&self.path)?;
        let mut index = self.index()?.unwrap_or_else(
            || json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": [] }),
        );
        let list = index["manifests"]
            .as_array_mut()
            .context("index.json: manifests is no array")?;
        list.retain(|e| tag_of(e) != Some(tag));
        list.push(json!({
            "mediaType": MEDIA_TYPE_MANIFEST,
            "digest": format!("sha256:{manifest}"),
            "size": size,
            "annotations": { REF_NAME: tag },
            "artifactType": ARTIFACT_TYPE,
        }));
        lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)
    }

    /// Takes `tag` out of index.json, which must have it.
    pub fn remove_tag(&self, tag: &str) -> Result<()> {
        let lock = Lock::new(&self.path)?;
        self.resolve(tag)?;
        let mut index = self.index()?.unwrap_or_default();
        if let Some(list) = index["manifests"].as_array_mut() {
            list.retain(|entry| tag_of(entry) != Some(tag));
        }
        lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)
    }

    /// Lets tags, of which index.json has entries, name other manifests, all at once:
    /// `change` gets an entry's digest and tag, and gives the new digest and size.
    pub fn replace(
        &self,
        change: impl Fn(&Digest, Option<&str>) -> Option<(Digest, u64)>,
    ) -> Result<()> {
        let lock = Lock::new(&self.path)?;
        let mut index = self.index()?.unwrap_or_default();
        for entry in index["manifests"].as_array_mut().into_iter().flatten() {
            let digest = entry["digest"].as_str().unwrap_or_default();
            let Ok(digest) = Digest::parse(digest.as_bytes()) else {
                continue;
            };
            if let Some((digest, size)) = change(&digest, tag_of(entry)) {
                entry["digest"] = format!("sha256:{digest}").into();
                entry["size"] = size.into();
            }
        }
        lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)
    }

    /// Removes what a killed build left of a new index.json; says how many bytes.
    pub fn remove_temporary(&self, dry_run: bool) -> Result<u64> {
        let _lock = Lock::new(&self.path)?;
        let path = self.path.join(TEMPORARY);
        let Ok(found) = fs::symlink_metadata(&path) else {
            return Ok(0);
        };
        if !dry_run {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(found.len())
    }

    /// The manifests that index.json lists, in its order, with their tags if they have any.
    pub fn manifests(&self) -> Result<Vec<(Digest, Option<String>)>> {
        let index = self.index()?.unwrap_or_default();
        let manifests = entries(&index).iter();
        let manifests = manifests.filter(|entry| entry["mediaType"] == MEDIA_TYPE_MANIFEST);
        let named = manifests.filter_map(|entry| {
            let digest = Digest::parse(entry["digest"].as_str()?.as_bytes()).ok()?;
            Some((digest, tag_of(entry).map(str::to_owned)))
        });
        Ok(named.collect())
    }

    /// index.json, if there is one.
    pub fn index(&self) -> Result<Option<Value>> {
        let path = self.path.join(INDEX_FILE);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let index: Value =
            serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))?;
        ensure!(
            index["manifests"].is_array(),
            "{}: manifests is no array",
            path.display()
        );
        Ok(Some(index))
    }
}

fn entries(index: &Value) -> &[Value] {
    index["manifests"].as_array().map_or(&[], |list| list)
}

fn tag_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}

/// What [`Layout::keep_blobs`] and [`Layout::own_blobs`] give: a flock(2) of the directory
/// `blobs`, until it is dropped.
pub struct BlobLock(#[allow(dead_code, reason = "it is held, not used")] File);

/// The right to change a layout's own files, until it is dropped. It is a flock(2) of the
/// directory itself, which leaves no file behind that other tools would have to know.
struct Lock<'a> {
    path: &'a Path,
    dir: File,
}

impl<'a> Lock<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let dir = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive)
            .with_context(|| format!("locking {}", path.display()))?;
        Ok(Lock { path, dir })
    }

    /// Replaces a file, atomically and durably.
    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let to = self.path.join(name);
        // Only who holds the lock writes it; a killed build's is written over.
        let temporary = self.path.join(TEMPORARY);
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &to)?;
            self.dir.sync_all()
        };
        write().with_context(|| format!("writing {}", to.display()))
    }
}
