// SPDX-License-Identifier: GPL-2.0

//! The content of chunks that several small files share, in page caches of its own.
//!
//! A small file is read from there, by who calls read(2). It gets pages of its own only if it
//! is mapped, or spliced: these are copied from there. Many files end in the middle of a page,
//! and these would be a tenth of all the pages that a Debian takes.
//!
//! Images share it as they share the page cache of files ([`crate::fingerprint`]).
//!
//! Only chunks in packs are kept there: of a loose one nothing is known any more when the
//! files that use it are closed.

use crate::{data::Piece, fingerprint, image::Image, slot::Loaded, store::Stored};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use vfs::{ReadWindow, SharedCache, SuperBlock};

/// Chunks of more content are not kept. No builder makes small files share that much, and a
/// hostile image must not fill the page cache by files of one byte each.
const MAX_SHARED_BYTES: usize = 2 << 20;

/// Chunks of a mount that have a page cache. Its pages can be reclaimed, but what it is itself
/// stays until the image is unmounted: some 700 bytes. These are enough for a gigabyte of small
/// files in chunks of 64 KiB.
const MAX_SHARED: u32 = 1 << 14;

/// The page cache of a chunk in a pack.
pub(crate) struct Shared {
    /// Whether it is of what the chunk decompresses to. A hostile image may refer to both that and
    /// what is stored: it has to do without for the other one.
    compressed: bool,
    cache: SharedCache,
    /// Bytes copied to pages of files.
    copied: Atomic<u32>,
    /// Whether small files are read from there.
    is_read: Atomic<bool>,
}

impl Shared {
    /// Whether it is of what the chunk decompresses to, or of what is stored.
    pub(crate) fn is_of(&self, compressed: bool) -> bool {
        self.compressed == compressed
    }

    /// That of `chunk`, made if it was not there. None if the chunk is not in a pack, too many
    /// have one, or there is no memory. Only for who is reading the chunk
    /// ([`crate::store::Store::reading`]).
    pub(crate) fn make<'a>(
        sb: &SuperBlock<Image>,
        chunk: &Stored<'a>,
        compressed: bool,
    ) -> Option<&'a Self> {
        let state = chunk.packed()?.state;
        if state.shared.as_ref().is_none() {
            // A few more, made at the same time, do not matter.
            if chunk.shared_chunks().load(Relaxed) >= MAX_SHARED {
                return None;
            }
            let fingerprint = fingerprint::of_chunk(chunk, compressed, sb.identity());
            let shared = Self {
                compressed,
                cache: sb.shared_cache(&fingerprint).ok()?,
                copied: Atomic::new(0),
                is_read: Atomic::new(false),
            };
            let shared = KBox::new(shared, GFP_KERNEL_ACCOUNT).ok()?;
            if state.shared.populate(shared) {
                chunk.shared_chunks().add(1, Relaxed);
            }
        }
        state.shared(compressed)
    }

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

    /// Copies what is there of `piece` to `window`. False if that is nothing.
    ///
    /// # Errors
    ///
    /// Those of writing to the window.
    pub(crate) fn copy(&self, piece: &Piece<'_>, window: &mut ReadWindow<'_>) -> Result<bool> {
        let read = self.read(piece.start, piece.len, |bytes| window.write(bytes))?;
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
        match self.cache.fill(0, size, |memory| chunk.write_to(memory)) {
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
