// SPDX-License-Identifier: GPL-2.0

//! The pool of slots.
//!
//! Their buffers are neither allocated for each read nor locked during one: a reader takes
//! a slot out of the pool, owns it while it waits for a disk or for zstd, and puts it
//! back. So readers do not wait for each other's slots.
//!
//! How many slots the readers of one mount have at a time is bounded, and whoever waits for one
//! can be killed. It is not bounded for all mounts together: a mount whose layout lies, say, on a
//! loop device over a file of another PuzzleFS would wait for that one, and that one for it.

use super::slot::{Key, Slot};
use kernel::{
    cpu::nr_cpu_ids,
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, SpinLock},
};
use vfs::{Permit, Semaphore, Shrink};

/// Slots that the readers of one mount can have at a time, at least. While they wait for a disk
/// they need no processor.
const MIN_PERMITS: u32 = 16;

/// How much memory a slot of the pool may take on average, in bytes: a chunk of upstream's
/// largest size, 256 KiB, as stored and decompressed, and the contexts of zstd.
const SLOT_BYTES: usize = 1536 << 10;

/// The slots that no reader is using, the one used last at the end. One pool serves all
/// mounts.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    idle: SpinLock<Idle>,
    /// Most slots to keep.
    max_slots: usize,
}

struct Idle {
    /// Each by itself on the heap: a stack of the kernel is too small to pass them around.
    slots: KVec<KBox<Slot>>,
    /// What they take.
    bytes: usize,
    /// How many others readers are using.
    taken: usize,
    /// Mounts that use the pool; without any it is empty.
    mounts: usize,
    /// The number of the newest of all mounts.
    last_mount: u64,
}

impl Pool {
    /// A pool that keeps four slots for each possible processor, within bounds: the chunk
    /// that a reader there is in the middle of, the one before, and those of a batch.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let processors = usize::try_from(nr_cpu_ids()).unwrap_or(1);
        let max_slots = processors.saturating_mul(4).clamp(4, 32);
        let idle = Idle {
            slots: KVec::with_capacity(max_slots, GFP_KERNEL)?,
            bytes: 0,
            taken: 0,
            mounts: 0,
            last_mount: 0,
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
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn mount(this: &Arc<Self>) -> Result<Mounted> {
        let permits = u32::try_from(this.max_slots).unwrap_or(u32::MAX);
        let permits = permits.max(MIN_PERMITS);
        let permits = KBox::pin_init(Semaphore::new(permits), GFP_KERNEL)?;
        let mut idle = this.idle.lock();
        idle.mounts = idle.mounts.saturating_add(1);
        idle.last_mount = idle.last_mount.wrapping_add(1);
        let id = idle.last_mount;
        drop(idle);
        Ok(Mounted {
            pool: this.clone(),
            id,
            permits,
        })
    }

    /// Takes the slot that holds `key`; else, once there are as many as the pool keeps, the
    /// one that was not used for the longest time; else a new one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn take(&self, key: &Key) -> Result<KBox<Slot>> {
        let mut idle = self.idle.lock();
        let held = |slot: &KBox<Slot>| slot.holds(key);
        let index = match idle.slots.iter().rposition(held) {
            Some(index) => Some(index),
            None if idle.slots.len().saturating_add(idle.taken) >= self.max_slots => Some(0),
            None => None,
        };
        if let Some(slot) = index.and_then(|index| idle.remove(index)) {
            idle.taken = idle.taken.saturating_add(1);
            return Ok(slot);
        }
        drop(idle);
        // It serves all who read: no cgroup pays, least of all the first one.
        let slot = KBox::new(Slot::default(), GFP_KERNEL)?;
        let mut idle = self.idle.lock();
        idle.taken = idle.taken.saturating_add(1);
        Ok(slot)
    }

    /// Puts a slot back. Older ones make room for it, so that chunks of any size are kept
    /// as long as they are in use.
    fn put(&self, slot: KBox<Slot>) {
        let max_bytes = self.max_slots.saturating_mul(SLOT_BYTES);
        let mut idle = self.idle.lock();
        idle.taken = idle.taken.saturating_sub(1);
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

impl Shrink for Pool {
    fn count(&self) -> usize {
        self.idle.lock().bytes.div_ceil(PAGE_SIZE)
    }

    fn shrink(&self, pages: usize) -> usize {
        let mut done: usize = 0;
        while done < pages {
            // Memory is freed without the lock.
            let Some(oldest) = self.idle.lock().remove(0) else {
                break;
            };
            done = done.saturating_add(oldest.bytes().div_ceil(PAGE_SIZE));
        }
        done
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
pub(crate) struct Mounted {
    pool: Arc<Pool>,
    id: u64,
    /// One for each slot that its readers have.
    permits: Pin<KBox<Semaphore>>,
}

impl Mounted {
    /// A number that no other mount has or had.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for a slot, and takes it until the result is dropped: best the one that holds the
    /// chunk of `key`.
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed, `ENOMEM`.
    pub(crate) fn take(&self, key: &Key) -> Result<Taken<'_>> {
        self.taken(key, self.permits.acquire()?)
    }

    /// The same if there is one at once.
    pub(crate) fn try_take(&self, key: &Key) -> Option<Taken<'_>> {
        self.taken(key, self.permits.try_acquire()?).ok()
    }

    fn taken<'a>(&'a self, key: &Key, _permit: Permit<'a>) -> Result<Taken<'a>> {
        let pool = &*self.pool;
        let slot = Some(pool.take(key)?);
        Ok(Taken {
            pool,
            slot,
            _permit,
        })
    }
}

/// A slot that somebody uses. Dropped, it goes back into the pool.
pub(crate) struct Taken<'a> {
    pool: &'a Pool,
    /// There until this is dropped.
    slot: Option<KBox<Slot>>,
    _permit: Permit<'a>,
}

impl Taken<'_> {
    /// The slot.
    ///
    /// # Errors
    ///
    /// None.
    pub(crate) fn slot(&mut self) -> Result<&mut Slot> {
        self.slot.as_deref_mut().ok_or(EINVAL)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool.put(slot);
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock();
        idle.mounts = idle.mounts.saturating_sub(1);
        drop(idle);
        loop {
            let mut idle = self.pool.idle.lock();
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
