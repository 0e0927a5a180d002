// SPDX-License-Identifier: GPL-2.0

//! The content of chunks that several small files share, in page caches of its own.
//!
//! read(2) takes a small file from there. The file gets pages of its own only if it
//! is mapped, or spliced: these are copied from there. Many files end in the middle of a page,
//! and these would be a tenth of all the pages that a Debian takes.
//!
//! Images share it as they share the page cache of files ([`super::fingerprint`]).
//!
//! Only chunks in packs are kept there: of a loose one nothing is known any more when the
//! files that use it are closed.

use super::fingerprint::Sharers;
use crate::{
    content::{Loaded, Locked},
    tables::Sparse,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use vfs::{ReadWindow, SharedCache, SharedCaches};

/// Chunks of more content are not kept. No builder makes small files share that much, and a
/// hostile image must not fill the page cache by files of one byte each.
const MAX_SHARED_BYTES: usize = 2 << 20;

/// Chunks of a mount that have a page cache. Its pages can be reclaimed, but what it is itself
/// stays until the image is unmounted: some 700 bytes. These are enough for a gigabyte of small
/// files in chunks of 64 KiB.
const MAX_CACHES: u32 = 1 << 14;

/// The page cache of a chunk in a pack.
pub(crate) struct ChunkCache {
    /// Whether it is of what the chunk decompresses to. A hostile image may refer to both that and
    /// what is stored: it has to do without for the other one.
    compressed: bool,
    cache: SharedCache,
    /// Bytes copied to pages of files.
    copied: Atomic<u32>,
    /// Whether small files are read from there.
    is_read: Atomic<bool>,
}

/// The page caches of the chunks of an image.
pub(super) struct ChunkCaches {
    /// By the numbers of chunks.
    by_number: Sparse<KBox<ChunkCache>>,
    /// How many they are.
    count: Atomic<u32>,
}

impl Default for ChunkCaches {
    fn default() -> Self {
        Self {
            by_number: Sparse::default(),
            count: Atomic::new(0),
        }
    }
}

impl ChunkCaches {
    /// That of the chunk with this number, stored compressed or not, if it has one.
    pub(super) fn get(&self, number: u32, compressed: bool) -> Option<&ChunkCache> {
        let cache = self.by_number.get(number)?;
        (cache.compressed == compressed).then_some(&**cache)
    }

    /// That of `locked`, one of `caches` if it had none.
    pub(super) fn make(
        &self,
        sharers: &Sharers,
        locked: &Locked<'_>,
        caches: &Arc<SharedCaches>,
    ) -> Option<&ChunkCache> {
        let chunk = locked.chunk();
        let (number, compressed) = (chunk.number()?, chunk.is_compressed());
        if self.by_number.get(number).is_none() {
            // A few more, made at the same time, do not matter.
            if self.count.load(Relaxed) >= MAX_CACHES {
                return None;
            }
            let cache = ChunkCache {
                compressed,
                cache: caches.cache(&sharers.of_chunk(chunk)).ok()?,
                copied: Atomic::new(0),
                is_read: Atomic::new(false),
            };
            // For all who read by the mount, as the rest of the state.
            let cache = KBox::new(cache, GFP_KERNEL).ok()?;
            if self.by_number.populate(number, cache).ok()? {
                self.count.add(1, Relaxed);
            }
        }
        self.get(number, compressed)
    }
}

impl ChunkCache {
    /// Whether something is there at `position`.
    pub(crate) fn has(&self, position: usize) -> bool {
        self.cache.has(position as u64).unwrap_or(false)
    }

    /// Calls `copy` with up to `len` bytes from `start` on, piece by piece, as far as they are
    /// there. Returns how many they were.
    ///
    /// # Errors
    ///
    /// Those of `copy`.
    pub(crate) fn read(
        &self,
        start: usize,
        len: usize,
        copy: impl FnMut(&[u8]) -> Result,
    ) -> Result<usize> {
        let end = start.saturating_add(len) as u64;
        if end > self.cache.size() {
            return Ok(0);
        }
        self.cache.read(start as u64, len, copy)
    }

    /// Copies to `window` what is there of up to `len` bytes from `start` on. False if that is
    /// nothing.
    ///
    /// # Errors
    ///
    /// Those of writing to the window.
    pub(crate) fn copy(
        &self,
        start: usize,
        len: usize,
        window: &mut ReadWindow<'_>,
    ) -> Result<bool> {
        let read = self.read(start, len, |bytes| window.write(bytes))?;
        if read > 0 && self.is_used_up(read) && !self.is_read.load(Relaxed) {
            let size = usize::try_from(self.cache.size()).unwrap_or(usize::MAX);
            self.cache.forget(0, size);
        }
        Ok(read > 0)
    }

    /// Notes that small files are read from there: it is of use after all was copied, too.
    pub(crate) fn set_read(&self) {
        self.is_read.store(true, Relaxed);
    }

    /// Puts the content of `chunk` there. False if it is too much, there is no memory, or it does
    /// not decompress as a whole.
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed.
    pub(crate) fn fill(&self, chunk: &mut Loaded<'_>) -> Result<bool> {
        let size = chunk.size();
        if size > MAX_SHARED_BYTES {
            return Ok(false);
        }
        // First: whoever finds a folio there may use it.
        self.cache.set_size(size as u64);
        match self.cache.fill(0, size, |output| chunk.write_to(output)) {
            Ok(()) => Ok(true),
            // What is in front of the damage can still be had without it.
            Err(ENOMEM | EFBIG | EIO) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Counts `bytes` that were copied. True when as many were copied as the content has:
    /// most likely nobody needs it again.
    fn is_used_up(&self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let copied = self.copied.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let is_used_up = u64::from(copied) >= self.cache.size();
        if is_used_up {
            self.copied.store(0, Relaxed);
        }
        is_used_up
    }
}
