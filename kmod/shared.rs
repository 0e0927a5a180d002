// SPDX-License-Identifier: GPL-2.0

//! The content of chunks that several small files share, in the mount's own page cache.
//!
//! Only chunks in packs are kept there: of a loose one nothing is known any more when the
//! files that use it are closed.

use crate::{data::Piece, slot::Loaded, store::Stored};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use puzzlefs_format::limits;
use vfs::{PrivateCache, ReadWindow};

/// Chunks of more content are not kept. No builder makes small files share that much, and a
/// hostile image must not fill the page cache by files of one byte each.
const MAX_SHARED_BYTES: usize = 2 << 20;

/// What is remembered of a chunk in a pack.
pub(crate) struct SharedState {
    /// Bytes of its content as stored, and decompressed, that were put into the cache; 0 if
    /// none ever were. A hostile image may refer to both.
    cached: [Atomic<u32>; 2],
    /// Bytes copied out of there.
    copied: Atomic<u32>,
}

impl Default for SharedState {
    fn default() -> Self {
        Self {
            cached: [Atomic::new(0), Atomic::new(0)],
            copied: Atomic::new(0),
        }
    }
}

/// The place of a chunk's content in the cache of its mount.
pub(crate) struct Shared<'a> {
    cache: &'a PrivateCache,
    cached: &'a Atomic<u32>,
    copied: &'a Atomic<u32>,
    position: u64,
}

impl<'a> Shared<'a> {
    /// The place of `chunk` in `cache`; none if it is not in a pack.
    pub(crate) fn new(
        cache: &'a PrivateCache,
        chunk: &Stored<'a>,
        compressed: bool,
    ) -> Option<Self> {
        let packed = chunk.packed()?;
        let [stored, decompressed] = &packed.state.shared.cached;
        let (cached, form) = if compressed {
            (decompressed, 1)
        } else {
            (stored, 0)
        };
        let place = packed.number.checked_mul(2)?;
        Some(Self {
            cache,
            cached,
            copied: &packed.state.shared.copied,
            position: place
                .checked_add(form)?
                .checked_mul(limits::MAX_CHUNK_BYTES)?,
        })
    }

    /// Copies what is there of `piece` to `window`. False if that is nothing.
    ///
    /// # Errors
    ///
    /// Those of writing to the window.
    pub(crate) fn copy(&self, piece: &Piece<'_>, window: &mut ReadWindow<'_>) -> Result<bool> {
        let size = self.size();
        if piece.end() > size {
            return Ok(false);
        }
        let position = self.position.saturating_add(piece.start as u64);
        let read = self
            .cache
            .read(position, piece.len, |bytes| window.write(bytes))?;
        if read > 0 && self.is_used_up(read) {
            self.cache.forget(self.position, size);
        }
        Ok(read > 0)
    }

    /// Puts the content of `chunk` there. False if it is too much, or there is no memory.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not decompress.
    pub(crate) fn fill(&self, chunk: &mut Loaded<'_>) -> Result<bool> {
        let size = chunk.size();
        if size > MAX_SHARED_BYTES {
            return Ok(false);
        }
        let fill = self
            .cache
            .fill(self.position, size, |memory| chunk.write_to(memory));
        match fill {
            Ok(()) => {
                self.cached.store(u32::try_from(size).unwrap_or(0), Relaxed);
                Ok(true)
            }
            Err(ENOMEM | EFBIG) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn size(&self) -> usize {
        usize::try_from(self.cached.load(Relaxed)).unwrap_or(0)
    }

    /// Counts `bytes` that were copied. True when as many were copied as the content has:
    /// most likely nobody needs it again.
    fn is_used_up(&self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let copied = self.copied.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let is_used_up = copied >= self.cached.load(Relaxed);
        if is_used_up {
            self.copied.store(0, Relaxed);
        }
        is_used_up
    }
}
