// SPDX-License-Identifier: GPL-2.0

//! Files of other filesystems that a filesystem reads: here they are in memory, in a [`Layout`].

use crate::task::killed;
use kernel::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// How much is read between two looks for a fatal signal, in bytes.
const KILLABLE_BYTES: usize = 1 << 20;

static LAST: AtomicU64 = AtomicU64::new(0);

/// A number that nothing else has.
fn unique() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// What is in a file.
#[derive(Debug)]
struct Blob {
    bytes: RwLock<Vec<u8>>,
    id: FileId,
    /// Reads of it fail so.
    fault: Option<Error>,
    fs_verity: FsVerity,
    cache: LowerCache,
}

impl Blob {
    fn bytes(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page of the page cache below, in bytes.
const PAGE: u64 = 4096;

/// The numbers of the pages of a file that are in the page cache of the filesystem below.
#[derive(Debug, Default)]
pub struct LowerCache(Mutex<BTreeSet<u64>>);

impl LowerCache {
    fn pages(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody reads `len` bytes from `position` on.
    pub fn fill(&self, position: u64, len: u64) {
        let pages = position / PAGE..(position + len).div_ceil(PAGE);
        self.pages().extend(pages);
    }

    /// How many pages of `len` bytes from `position` on are there.
    pub fn count(&self, position: u64, len: u64) -> usize {
        let pages = position / PAGE..(position + len).div_ceil(PAGE);
        self.pages().range(pages).count()
    }

    /// Drops them.
    pub fn drop(&self, position: u64, len: u64) {
        let pages = position / PAGE..(position + len).div_ceil(PAGE);
        self.pages().retain(|page| !pages.contains(page));
    }
}

/// What the filesystem below says of a file's fs-verity (`fsverity_get_digest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsVerity {
    /// It has this digest.
    Sha256([u8; 32]),
    /// It has one of another algorithm.
    Other,
    /// It has none.
    Off,
    /// The kernel does not know of any.
    Unknown,
}

#[derive(Debug, Default)]
struct Files {
    number: u64,
    files: Mutex<BTreeMap<Vec<u8>, Result<Arc<Blob>>>>,
    reads: AtomicU64,
    bytes_read: AtomicU64,
    opens: AtomicU64,
}

/// The directory `blobs/sha256` of a layout.
#[derive(Clone, Debug)]
pub struct Layout(Arc<Files>);

impl Layout {
    /// One without any files, on a filesystem of its own.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Arc::new(Files {
            number: unique(),
            ..Files::default()
        }))
    }

    fn set(&self, name: &str, file: Result<Arc<Blob>>) {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.as_bytes().to_vec(), file);
    }

    /// Puts a file there.
    pub fn insert(&self, name: &str, bytes: Vec<u8>) {
        self.insert_as(name, bytes, None, FsVerity::Off);
    }

    /// The same, whose reads fail by `fault`, and which has fs-verity, or not.
    pub fn insert_as(&self, name: &str, bytes: Vec<u8>, fault: Option<Error>, fs_verity: FsVerity) {
        // The place of an inode in memory, device, number, generation, and time.
        let id = FileId([unique(), self.0.number, unique(), 1, 2, 3]);
        self.set(
            name,
            Ok(Arc::new(Blob {
                bytes: RwLock::new(bytes),
                id,
                fault,
                fs_verity,
                cache: LowerCache::default(),
            })),
        );
    }

    /// Writes other bytes into a file that is there: who has it open sees them.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = files.get(name.as_bytes()).and_then(|it| it.as_ref().ok());
        let blob = blob.expect("a file");
        *blob.bytes.write().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    /// Puts something there that cannot be opened.
    pub fn insert_closed(&self, name: &str, error: Error) {
        self.set(name, Err(error));
    }

    /// How often somebody has read, how many bytes, and how often somebody has opened.
    pub fn counts(&self) -> (u64, u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (
            load(&self.0.reads),
            load(&self.0.bytes_read),
            load(&self.0.opens),
        )
    }

    /// Where it is.
    pub fn path(&self) -> Path {
        Path(self.clone())
    }

    /// It, to be read.
    pub fn directory(&self) -> LowerDirectory {
        LowerDirectory(self.clone())
    }
}

/// The credentials that files are opened and read with: all may do all.
#[derive(Clone, Debug, PartialEq)]
pub struct Credentials;

impl Credentials {
    /// Those of the current task.
    pub fn current() -> Self {
        Self
    }
}

/// A path (`struct path`).
#[derive(Clone, Debug)]
pub struct Path(Layout);

impl Path {
    /// Tells the filesystem that the path is on from others, as long as any clone of it is there.
    pub fn filesystem(&self) -> usize {
        Arc::as_ptr(&self.0 .0).addr()
    }
}

/// A directory with the files that a filesystem reads.
#[derive(Debug)]
pub struct LowerDirectory(Layout);

impl LowerDirectory {
    /// The directory.
    pub fn path(&self) -> Path {
        Path(self.0.clone())
    }

    /// Opens the regular file `name` for reading (`kernel_file_open`).
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none, and what was said of it.
    pub fn open(&self, name: &CStr, _: &Credentials) -> Result<LowerFile> {
        let files = &self.0 .0;
        files.opens.fetch_add(1, Ordering::Relaxed);
        let names = files.files.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = names.get(name.to_bytes()).cloned().ok_or(ENOENT)??;
        Ok(LowerFile {
            blob,
            layout: self.0.clone(),
        })
    }
}

/// What tells a file from all others that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId([u64; 6]);

impl FileId {
    /// These numbers.
    pub fn numbers(&self) -> [u64; 6] {
        self.0
    }
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct LowerFile {
    blob: Arc<Blob>,
    layout: Layout,
}

impl LowerFile {
    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.blob.bytes().len() as u64
    }

    /// What tells it from other files, as long as it is open.
    pub fn id(&self) -> FileId {
        self.blob.id
    }

    /// Its fs-verity.
    pub fn fs_verity(&self) -> FsVerity {
        self.blob.fs_verity
    }

    /// How far behind its end a read may bring something into the page cache below: here it
    /// always does, that far.
    pub fn ahead_bytes(&self) -> u64 {
        2 * KILLABLE_BYTES as u64
    }

    /// The page cache below.
    pub fn cache(&self) -> &LowerCache {
        &self.blob.cache
    }

    /// Whether that has any of `len` bytes from `position` on (`filemap_range_has_page`).
    pub fn has_cached(&self, position: u64, len: u64) -> bool {
        self.cache().count(position, len) != 0
    }

    /// Drops bytes from the page cache below (`invalidate_mapping_pages`).
    pub fn forget(&self, position: u64, len: u64) {
        self.cache().drop(position, len);
    }

    /// Reads from `position` until `buffer` is full (`kernel_read`).
    ///
    /// # Errors
    ///
    /// `EIO` when the file ends before, `EINTR` when the task was killed, `EOVERFLOW` for a position
    /// that is none, and what was said of the file.
    pub fn read_exact(&self, buffer: &mut [u8], position: u64) -> Result {
        i64::try_from(position).map_err(|_| EOVERFLOW)?;
        let mut at = usize::try_from(position).map_err(|_| EIO)?;
        let mut parts = buffer.chunks_mut(KILLABLE_BYTES).peekable();
        while let Some(part) = parts.next() {
            let counts = &self.layout.0;
            counts.reads.fetch_add(1, Ordering::Relaxed);
            if let Some(fault) = self.blob.fault {
                return Err(fault);
            }
            let bytes = self.blob.bytes();
            let bytes = bytes.get(at..).unwrap_or_default();
            let bytes = bytes.get(..part.len()).ok_or(EIO)?;
            part.copy_from_slice(bytes);
            let ahead = (bytes.len() as u64).saturating_add(self.ahead_bytes());
            let ahead = ahead.min(self.size().saturating_sub(at as u64));
            self.cache().fill(at as u64, ahead);
            counts
                .bytes_read
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            at += bytes.len();
            if parts.peek().is_some() && killed() {
                return Err(EINTR);
            }
        }
        Ok(())
    }
}
