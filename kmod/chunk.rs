// SPDX-License-Identifier: GPL-2.0

//! Chunks, verified and decompressed.
//!
//! A chunk is named by the digest of its bytes as stored, and always read, verified and
//! decompressed as a whole: that is the unit of trust. What comes out is kept for a
//! while, since small files share chunks and big chunks outlast a readahead window.
//!
//! Buffers are neither allocated for each read nor locked during one: a reader takes a
//! slot out of the pool, owns it while it waits for a disk or for zstd, and puts it
//! back. So readers never wait for each other, and a mount whose layout lies, say, on a
//! loop device over a file of another PuzzleFS cannot deadlock with that one.

use crate::{error::errno, store::Blob};
use kernel::{cpu::nr_cpu_ids, new_spinlock, prelude::*, sync::SpinLock};
use puzzlefs_format::{limits, Digest, SeekTable};
use vfs::zstd;

/// Chunks of more bytes than this are not kept: the memory of a pool stays bounded by
/// what ordinary images need (upstream's chunks have at most 256 KiB).
const KEEP_BYTES: usize = 512 << 10;

/// What a slot holds: the chunk's digest, and whether it was decompressed, since a
/// hostile image may refer to the same bytes in both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    digest: Digest,
    compressed: bool,
}

/// A buffer that grows, and is only zeroed when it does.
#[derive(Default)]
struct Buffer {
    bytes: KVVec<u8>,
    len: usize,
}

impl Buffer {
    /// Makes the buffer `len` bytes long, with any content.
    fn resize(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.bytes.len() < len {
            // Free first: the old content is of no use.
            self.bytes = KVVec::new();
            self.bytes = KVVec::from_elem(0, len, GFP_KERNEL)?;
        }
        self.len = len;
        self.bytes.get_mut(..len).ok_or(EINVAL)
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The means to read one chunk, and the last one read by them.
#[derive(Default)]
struct Slot {
    holds: Option<Key>,
    stored: Buffer,
    data: Buffer,
    /// Made when first needed: raw images do without.
    context: Option<zstd::Context>,
}

impl Slot {
    fn load(&mut self, key: Key, blob: &Blob) -> Result {
        self.holds = None;
        let size = blob.size();
        if size > limits::MAX_CHUNK_BYTES {
            blob.report(format_args!("{size} bytes are too many for a chunk"));
            return Err(EIO);
        }
        let size = usize::try_from(size).map_err(|_| EIO)?;
        let stored = self.stored.resize(size)?;
        blob.read(stored)?;
        if key.compressed {
            self.decompress().inspect_err(|error| {
                blob.report(format_args!("cannot be decompressed: {error:?}"));
            })?;
        } else {
            core::mem::swap(&mut self.stored, &mut self.data);
        }
        self.holds = Some(key);
        Ok(())
    }

    fn decompress(&mut self) -> Result {
        let stored = self.stored.get();
        let table = SeekTable::parse(stored).map_err(errno)?;
        let size = usize::try_from(table.decompressed_size()).map_err(|_| EUCLEAN)?;
        let mut data = self.data.resize(size)?;
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::Context::new()?),
        };
        // The table's frames are in order and cover all of it.
        for frame in table.frames() {
            let start = usize::try_from(frame.stored_offset).map_err(|_| EUCLEAN)?;
            let len = usize::try_from(frame.stored_size).map_err(|_| EUCLEAN)?;
            let source = stored.get(start..).and_then(|rest| rest.get(..len));
            let size = usize::try_from(frame.size).map_err(|_| EUCLEAN)?;
            let (part, rest) = data.split_at_mut_checked(size).ok_or(EUCLEAN)?;
            context.decompress(part, source.ok_or(EUCLEAN)?)?;
            data = rest;
        }
        Ok(())
    }

    /// Whether the slot is worth keeping.
    fn is_small(&self) -> bool {
        self.stored.bytes.len() <= KEEP_BYTES && self.data.bytes.len() <= KEEP_BYTES
    }
}

/// The slots that no reader is using, the one used last at the end. One pool serves all
/// mounts: a chunk is the same whichever image it belongs to.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    idle: SpinLock<KVec<KBox<Slot>>>,
    limit: usize,
}

impl Pool {
    /// A pool that keeps two slots for each possible processor, within bounds: the chunk
    /// that a reader there is in the middle of, and the one before.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        let limit = usize::try_from(nr_cpu_ids()).unwrap_or(1);
        let limit = limit.saturating_mul(2).clamp(4, 32);
        let idle = KVec::with_capacity(limit, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self {
                idle <- new_spinlock!(idle),
                limit,
            }),
            GFP_KERNEL,
        )
    }

    /// Calls `read` with the content of the chunk that `blob` holds.
    ///
    /// # Errors
    ///
    /// `EIO` when the blob is not what its digest says or does not decompress, `EUCLEAN`
    /// when its seek table is not sound, `ENOMEM`, and those of `read`.
    pub(crate) fn with_chunk<R>(
        &self,
        blob: &Blob,
        compressed: bool,
        read: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R> {
        let key = Key {
            digest: *blob.digest(),
            compressed,
        };
        let mut slot = self.take(&key)?;
        let result = if slot.holds == Some(key) {
            Ok(())
        } else {
            slot.load(key, blob)
        };
        let result = result.and_then(|()| read(slot.data.get()));
        self.put(slot);
        result
    }

    /// Takes the slot that holds `key`; else, once the pool is full, the one that was not
    /// used for the longest time; else a new one.
    fn take(&self, key: &Key) -> Result<KBox<Slot>> {
        let mut idle = self.idle.lock();
        let index = match idle.iter().rposition(|slot| slot.holds == Some(*key)) {
            Some(index) => Some(index),
            None if idle.len() == self.limit => Some(0),
            None => None,
        };
        if let Some(index) = index {
            return idle.remove(index).map_err(|_| EINVAL);
        }
        drop(idle);
        Ok(KBox::new(Slot::default(), GFP_KERNEL)?)
    }

    /// Puts a slot back, or frees it when it is big or the pool is full.
    fn put(&self, slot: KBox<Slot>) {
        if !slot.is_small() {
            return;
        }
        let mut idle = self.idle.lock();
        // A slot that does not fit is freed when the lock is dropped.
        let rest = idle.push_within_capacity(slot);
        drop(idle);
        drop(rest);
    }
}
