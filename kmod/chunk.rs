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

use crate::{error::errno, store::Stored};
use core::ops::Deref;
use kernel::{
    cpu::nr_cpu_ids,
    new_spinlock,
    prelude::*,
    sync::{Arc, SpinLock},
};
use puzzlefs_format::{Digest, SeekTable};
use vfs::zstd;

/// How much memory a slot of the pool may take on average, in bytes: a chunk of upstream's
/// largest size, 256 KiB, as stored and decompressed.
const SLOT_BYTES: usize = 512 << 10;

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
            self.bytes = KVVec::zeroed(len, GFP_KERNEL)?;
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
    fn load(&mut self, key: Key, chunk: &Stored<'_>) -> Result {
        self.holds = None;
        chunk.read(self.stored.resize(chunk.size()?)?)?;
        if key.compressed {
            self.decompress().inspect_err(|error| {
                if *error != ENOMEM {
                    chunk.report(format_args!("cannot be decompressed: {error:?}"));
                }
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

    /// How much memory the slot takes, in bytes, zstd's own aside.
    fn bytes(&self) -> usize {
        self.stored
            .bytes
            .len()
            .saturating_add(self.data.bytes.len())
    }
}

/// The slots that no reader is using, the one used last at the end. One pool serves all
/// mounts: a chunk is the same whichever image it belongs to.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    idle: SpinLock<Idle>,
    /// Most slots to keep.
    max_slots: usize,
}

struct Idle {
    slots: KVec<KBox<Slot>>,
    /// What they take.
    bytes: usize,
    /// Mounts that use the pool; without any it is empty.
    mounts: usize,
}

impl Pool {
    /// A pool that keeps two slots for each possible processor, within bounds: the chunk
    /// that a reader there is in the middle of, and the one before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let processors = usize::try_from(nr_cpu_ids()).unwrap_or(1);
        let max_slots = processors.saturating_mul(2).clamp(4, 32);
        let idle = Idle {
            slots: KVec::with_capacity(max_slots, GFP_KERNEL)?,
            bytes: 0,
            mounts: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                idle <- new_spinlock!(idle),
                max_slots,
            }),
            GFP_KERNEL,
        )
    }

    /// Keeps the pool in use for as long as the result lives.
    pub(crate) fn mount(self: &Arc<Self>) -> Mounted {
        let mut idle = self.idle.lock();
        idle.mounts = idle.mounts.saturating_add(1);
        drop(idle);
        Mounted(self.clone())
    }

    /// Calls `read` with the content of `chunk`.
    ///
    /// # Errors
    ///
    /// `EIO` when it is not what its digest says or does not decompress, `EUCLEAN`
    /// when its seek table is not sound, `ENOMEM`, and those of `read`.
    pub(crate) fn with_chunk<R>(
        &self,
        chunk: &Stored<'_>,
        compressed: bool,
        read: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R> {
        let key = Key {
            digest: *chunk.digest(),
            compressed,
        };
        let mut slot = self.take(&key)?;
        let result = if slot.holds == Some(key) {
            Ok(())
        } else {
            slot.load(key, chunk)
        };
        let result = result.and_then(|()| read(slot.data.get()));
        self.put(slot);
        result
    }

    /// Takes the slot that holds `key`; else, once the pool is full, the one that was not
    /// used for the longest time; else a new one.
    fn take(&self, key: &Key) -> Result<KBox<Slot>> {
        let mut idle = self.idle.lock();
        let held = |slot: &KBox<Slot>| slot.holds == Some(*key);
        let index = match idle.slots.iter().rposition(held) {
            Some(index) => Some(index),
            None if idle.slots.len() == self.max_slots => Some(0),
            None => None,
        };
        match index.and_then(|index| idle.remove(index)) {
            Some(slot) => Ok(slot),
            None => {
                drop(idle);
                Ok(KBox::new(Slot::default(), GFP_KERNEL)?)
            }
        }
    }

    /// Puts a slot back. Older ones make room for it, so that chunks of any size are kept
    /// as long as they are in use.
    fn put(&self, slot: KBox<Slot>) {
        let max_bytes = self.max_slots.saturating_mul(SLOT_BYTES);
        let mut idle = self.idle.lock();
        idle.bytes = idle.bytes.saturating_add(slot.bytes());
        let rest = if idle.mounts == 0 {
            Some(slot)
        } else {
            idle.slots
                .push_within_capacity(slot)
                .err()
                .map(|full| full.0)
        };
        if let Some(slot) = &rest {
            idle.bytes = idle.bytes.saturating_sub(slot.bytes());
        }
        drop(idle);
        drop(rest);
        loop {
            let mut idle = self.idle.lock();
            if idle.bytes <= max_bytes || idle.slots.len() <= 1 {
                return;
            }
            let oldest = idle.remove(0);
            // Memory is freed without the lock.
            drop(idle);
            drop(oldest);
        }
    }
}

impl Idle {
    fn remove(&mut self, index: usize) -> Option<KBox<Slot>> {
        let slot = self.slots.remove(index).ok()?;
        self.bytes = self.bytes.saturating_sub(slot.bytes());
        Some(slot)
    }
}

/// A mount's use of the pool; the last one empties it.
pub(crate) struct Mounted(Arc<Pool>);

impl Deref for Mounted {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut idle = self.0.idle.lock();
        idle.mounts = idle.mounts.saturating_sub(1);
        drop(idle);
        loop {
            let mut idle = self.0.idle.lock();
            if idle.mounts > 0 {
                return;
            }
            let Some(slot) = idle.slots.pop() else {
                idle.bytes = 0;
                return;
            };
            drop(idle);
            drop(slot);
        }
    }
}
