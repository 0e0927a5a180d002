// SPDX-License-Identifier: GPL-2.0

//! The content of chunks: verified, and decompressed.
//!
//! A [`Chunk`] is locked, and only then read. So of many tasks that want it at once only the
//! first has the work, and the others find what it leaves them.

use crate::{
    chunks::{Chunks, Source, Stored},
    report::{is_passing, Purpose},
};
use kernel::prelude::*;
use pool::{Mounted, Taken};
use slot::{Key, Slot};
use vfs::{BitGuard, BitLocks, Output};

mod decoder;
mod pool;
mod slot;

pub(crate) use pool::Pool;
pub(crate) use slot::Loaded;

/// The chunks of a mounted image, with the means to read them.
pub(crate) struct Content {
    chunks: Chunks,
    pool: Mounted,
    /// Of the chunks that are being read.
    reading: BitLocks,
}

impl Content {
    /// The content of `chunks`, read by `pool`.
    pub(crate) fn new(chunks: Chunks, pool: Mounted) -> Self {
        Self {
            chunks,
            pool,
            reading: BitLocks::default(),
        }
    }

    /// Where its chunks are.
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The chunk that `source` stands for, stored compressed or not.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a source of another image.
    pub(crate) fn chunk<'a>(
        &'a self,
        source: &'a Source,
        compressed: bool,
        purpose: Purpose,
    ) -> Result<Chunk<'a>> {
        Ok(Chunk {
            content: self,
            stored: self.chunks.stored(source, purpose)?,
            number: self.chunks.number(source),
            compressed,
        })
    }
}

/// A chunk that can be read.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    content: &'a Content,
    stored: Stored<'a>,
    number: Option<u32>,
    compressed: bool,
}

impl<'a> Chunk<'a> {
    /// Its bytes.
    pub(crate) fn stored(&self) -> &Stored<'a> {
        &self.stored
    }

    /// Its number among the chunks in packs, if it is one of these.
    pub(crate) fn number(&self) -> Option<u32> {
        self.number
    }

    /// Whether it is stored compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Waits until nobody else reads it, and keeps others from it.
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed.
    pub(crate) fn lock(self) -> Result<Locked<'a>> {
        let _guard = self.content.reading.lock(self.hash())?;
        let chunk = self;
        Ok(Locked { chunk, _guard })
    }

    /// Locks it if nobody else reads it. A task that has locked several chunks must not wait.
    pub(crate) fn try_lock(self) -> Option<Locked<'a>> {
        let _guard = self.content.reading.try_lock(self.hash())?;
        let chunk = self;
        Some(Locked { chunk, _guard })
    }

    fn hash(&self) -> u16 {
        let [first, second, ..] = *self.stored.digest().as_bytes();
        u16::from_le_bytes([first, second])
    }

    fn key(&self) -> Key {
        Key {
            mount: self.content.pool.id(),
            digest: *self.stored.digest(),
            compressed: self.compressed,
        }
    }
}

/// A chunk that nobody else reads.
pub(crate) struct Locked<'a> {
    chunk: Chunk<'a>,
    _guard: BitGuard<'a>,
}

impl<'a> Locked<'a> {
    /// Which one it is.
    pub(crate) fn chunk(&self) -> &Chunk<'a> {
        &self.chunk
    }

    /// Calls `read` with the chunk, which was read and verified. A chunk that is damaged in one
    /// pack is taken from another that has it, too.
    ///
    /// # Errors
    ///
    /// `EIO` when its bytes are not those that the digest says, `EUCLEAN` when they are not in a
    /// form that the image may have, `EINTR` when the task was killed, `ENOMEM`, what reading
    /// says, and those of `read`.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&mut Loaded<'_>) -> Result<R>) -> Result<R> {
        let key = self.chunk.key();
        let mut stored = self.chunk.stored;
        let mut taken = self.chunk.content.pool.take(&key)?;
        let slot = taken.slot()?;
        self.load(slot, &key, &mut stored)?;
        self.use_loaded(slot, &stored, read)
    }

    /// Loads the chunk into `slot`, from `stored` or, if that is damaged, from another pack, which
    /// is `stored` then.
    fn load(&self, slot: &mut Slot, key: &Key, stored: &mut Stored<'a>) -> Result {
        loop {
            match slot.load(key, stored) {
                Err(error) if !is_passing(error) => stored.take_another(error)?,
                result => break result,
            }
        }
    }

    /// Calls `read` with the chunk, which `slot` has loaded. It is not inlined: so its frame is not
    /// on the stack while the filesystem below reads.
    #[inline(never)]
    fn use_loaded<R>(
        &self,
        slot: &mut Slot,
        stored: &Stored<'_>,
        read: impl FnOnce(&mut Loaded<'_>) -> Result<R>,
    ) -> Result<R> {
        read(&mut slot.loaded(&self.chunk.key(), stored)?)
    }

    /// Reads the chunk, and allocates what it takes to verify it and to decompress `len` bytes,
    /// which other tasks may do then. Calls `fits` with the size of the content, if what was read
    /// is the chunk. None if that cannot be, or does not fit.
    pub(crate) fn prepare(
        self,
        len: usize,
        fits: impl FnOnce(usize) -> bool,
    ) -> Option<Prepared<'a>> {
        let key = self.chunk.key();
        // A helper does not look for the chunk in another pack.
        if self.chunk.stored.is_damaged() {
            return None;
        }
        // A task that has several slots must not wait for another.
        let mut slot = self.chunk.content.pool.try_take(&key)?;
        let stored = &self.chunk.stored;
        let size = slot.slot().and_then(|slot| slot.prepare(&key, stored, len));
        let locked = self;
        fits(size.ok()?).then_some(Prepared { locked, slot })
    }
}

/// A chunk that was read, and can be verified and decompressed without memory, files or locks.
pub(crate) struct Prepared<'a> {
    // In front of the lock: the next reader may want the same slot.
    slot: Taken<'a>,
    locked: Locked<'a>,
}

impl Prepared<'_> {
    /// Verifies it, and decompresses what begins at `start` into `output`.
    ///
    /// # Errors
    ///
    /// As of [`Locked::read`], but it does not look into other packs.
    pub(crate) fn read(&mut self, start: usize, output: &mut Output<'_>) -> Result {
        let (key, stored) = (self.locked.chunk.key(), &self.locked.chunk.stored);
        let slot = self.slot.slot()?;
        slot.load(&key, stored)?;
        let mut loaded = slot.loaded(&key, stored)?;
        if output.size() == loaded.size() {
            loaded.write_to(output)
        } else {
            loaded.copy_to(start, output)
        }
    }
}
