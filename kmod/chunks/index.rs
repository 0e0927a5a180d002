// SPDX-License-Identifier: GPL-2.0

//! Indexes of packs, as they are stored. Mounts that have the same file for a pack share one.
//!
//! An index is a hint: the reader of a chunk that was found by it checks the digest. And each of
//! the mounts has opened the file itself, with the credentials of its mounter.
//!
//! Where fs-verity vouches for a pack the index is more than a hint. Then it must not be one that
//! was loaded while the file could still be changed. So mounts that rely on fs-verity share indexes
//! among each other only: each of them has seen that the file has it, and no file loses it again.
//!
//! The bytes of an index can be had again from its pack, so the kernel may take them back when it
//! is short of memory ([`Shrink`]). What others know of a chunk is its place in the index. So an
//! index that is read again must be the same one: else a place would be that of another chunk. A
//! digest of the bytes is kept in their stead.

use crate::{
    report::errno,
    tables::{Lent, Table},
};
use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, SpinLock,
    },
};
use puzzlefs_format::{self as format, PackIndex, PackTrailer};
use vfs::{
    lower::{FileId, LowerFile},
    sha256::Hasher,
    Shrink,
};

/// The file, and whether fs-verity vouches for it.
type Key = (FileId, bool);

/// An index that is there at least until this is dropped.
pub(crate) type LoadedIndex = Lent<Key, Index>;

/// The indexes that are in use.
pub(crate) struct Indexes {
    table: Arc<Table<Key, Index>>,
    resident: Arc<Resident>,
}

/// Pages of indexes that are in memory.
struct Resident(Atomic<usize>);

/// The index of a pack.
pub(crate) struct Index {
    trailer: PackTrailer,
    /// Of the pack.
    size: u64,
    state: Pin<KBox<SpinLock<State>>>,
    resident: Arc<Resident>,
}

/// What there is of an index.
struct State {
    bytes: Option<Arc<KVVec<u8>>>,
    /// Of the bytes, once they have been taken back.
    digest: Option<[u8; 32]>,
    /// Whether it was used since somebody last looked for what can be taken back.
    is_used: bool,
}

/// The bytes of an index, which stay until this is dropped.
pub(crate) struct Entries<'a> {
    trailer: &'a PackTrailer,
    bytes: Arc<KVVec<u8>>,
}

impl Indexes {
    /// None, for now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        // An index serves all who read of the pack: no cgroup pays, least of all the first one.
        let table = Table::new(GFP_KERNEL)?;
        let resident = Arc::new(Resident(Atomic::new(0)), GFP_KERNEL)?;
        Ok(Arc::new(Self { table, resident }, GFP_KERNEL)?)
    }

    /// The index of the pack `file`, for mounts `by_fs_verity` or others. It is loaded if nobody
    /// uses it.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when that is no pack, `ENOMEM`, and what reading says.
    pub(crate) fn load(&self, file: &LowerFile, by_fs_verity: bool) -> Result<LoadedIndex> {
        let key = (file.id(), by_fs_verity);
        Table::get(&self.table, key, || {
            Index::load(file, self.resident.clone())
        })
    }

    /// Takes back what was not used since the last time, up to so many `pages`; how many they were.
    fn take_back(&self, pages: usize) -> usize {
        let mut done: usize = 0;
        self.table.for_each(|index| {
            if done < pages {
                done = done.saturating_add(index.take_back());
            }
        });
        done
    }
}

impl Shrink for Indexes {
    fn count(&self) -> usize {
        self.resident.0.load(Relaxed)
    }

    fn shrink(&self, pages: usize) -> usize {
        let done = self.take_back(pages);
        // Now nothing counts as used.
        done.saturating_add(self.take_back(pages.saturating_sub(done)))
    }
}

impl Index {
    fn load(file: &LowerFile, resident: Arc<Resident>) -> Result<Self> {
        let size = file.size();
        let mut trailer = [0; PackTrailer::BYTES];
        let at = size.checked_sub(trailer.len() as u64);
        let at = at.ok_or_else(|| errno(format::Error::BadPack))?;
        file.read_exact(&mut trailer, at)?;
        let trailer = PackTrailer::parse(trailer, size).map_err(errno)?;
        let state = State {
            bytes: None,
            digest: None,
            is_used: true,
        };
        let index = Self {
            trailer,
            size,
            state: KBox::pin_init(new_spinlock!(state), GFP_KERNEL)?,
            resident,
        };
        index.read(file)?;
        Ok(index)
    }

    /// Number of chunks.
    pub(crate) fn count(&self) -> u32 {
        self.trailer.count()
    }

    /// Size of the pack, in bytes.
    pub(crate) fn pack_bytes(&self) -> u64 {
        self.size
    }

    /// Its entries, read again from `file`, which is the pack, if they were taken back.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, what reading says, and `EIO` when they are others than they were.
    pub(crate) fn get(&self, file: &LowerFile) -> Result<Entries<'_>> {
        let mut state = self.state.lock();
        state.is_used = true;
        let kept = state.bytes.clone();
        drop(state);
        let trailer = &self.trailer;
        let bytes = match kept {
            Some(bytes) => bytes,
            None => vfs::without_fs_reclaim(|| self.read(file))?,
        };
        Ok(Entries { trailer, bytes })
    }

    fn pages(&self) -> usize {
        self.trailer.index_bytes().div_ceil(PAGE_SIZE)
    }

    // Not inlined: mostly the bytes are there, and the frame is not to be on the stack where
    // chunks are looked for.
    #[cold]
    #[inline(never)]
    fn read(&self, file: &LowerFile) -> Result<Arc<KVVec<u8>>> {
        let mut bytes = KVVec::zeroed(self.trailer.index_bytes(), GFP_KERNEL)?;
        file.read_exact(&mut bytes, self.trailer.index_offset())?;
        let bytes = Arc::new(bytes, GFP_KERNEL)?;
        let expected = self.state.lock().digest;
        if expected.is_some_and(|expected| expected != digest(&bytes)) {
            return Err(EIO);
        }
        let mut state = self.state.lock();
        if let Some(other) = &state.bytes {
            // Somebody else has read them meanwhile. Ours go without the lock.
            let other = other.clone();
            drop(state);
            return Ok(other);
        }
        // They may have been taken back, and their digest be known, since it was looked at.
        if state.digest == expected {
            state.bytes = Some(bytes.clone());
            self.resident.0.add(self.pages(), Relaxed);
        }
        Ok(bytes)
    }

    /// Takes its bytes back, if they were not used since the last call; how many pages they were.
    fn take_back(&self) -> usize {
        let mut state = self.state.lock();
        let was_used = core::mem::take(&mut state.is_used);
        let (known, bytes) = (state.digest, state.bytes.clone());
        drop(state);
        let Some(bytes) = bytes.filter(|_| !was_used) else {
            return 0;
        };
        let known = known.unwrap_or_else(|| digest(&bytes));
        let mut state = self.state.lock();
        state.digest = Some(known);
        let taken = state.bytes.take();
        drop(state);
        // Memory is freed without the lock.
        if taken.is_none() {
            return 0;
        }
        self.resident.0.fetch_sub(self.pages(), Relaxed);
        self.pages()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if self.state.lock().bytes.is_some() {
            self.resident.0.fetch_sub(self.pages(), Relaxed);
        }
    }
}

impl Entries<'_> {
    /// The index.
    ///
    /// # Errors
    ///
    /// None: it was loaded as a whole.
    pub(crate) fn index(&self) -> Result<PackIndex<'_>> {
        PackIndex::new(&self.bytes, self.trailer).map_err(errno)
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}
