// SPDX-License-Identifier: GPL-2.0

//! Slots, and who gets them.

use super::pool::{Mounted, Pool};
use super::slot::Key;
use crate::chunk::{content, Zstd};
use crate::chunks::{Chunks, Source};
use crate::report::Purpose;
use crate::tests::{chunks, digest, layout};
use kernel::{alloc, prelude::*};
use puzzlefs_format::limits;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use vfs::{task, Lines, Shrink};

/// Slots of one mount, with two processors.
const PERMITS: usize = 16;

fn key(mounted: &Mounted, chunk: &[u8]) -> Key {
    Key {
        mount: mounted.id(),
        digest: digest(chunk),
        compressed: false,
    }
}

struct Sample {
    data: Vec<Vec<u8>>,
    /// The chunks; `None` if they are the data.
    compressed: Option<Vec<Vec<u8>>>,
    chunks: Chunks,
    sources: Vec<Source>,
}

impl Sample {
    fn new(count: u64, size: usize) -> Self {
        let data = (0..count).map(|seed| content(size, seed + 1)).collect();
        Self::of(data, None)
    }

    /// The same, compressed.
    fn compressed(count: u64, size: usize) -> Self {
        let Self { data, .. } = Self::new(count, size);
        let compressed = data.iter().map(|data| Zstd::PLAIN.chunk(data)).collect();
        Self::of(data, Some(compressed))
    }

    fn of(data: Vec<Vec<u8>>, compressed: Option<Vec<Vec<u8>>>) -> Self {
        let stored = compressed.as_ref().unwrap_or(&data);
        let lines = Lines::new(10);
        let chunks = chunks(&layout(stored), &[], &lines);
        let open = |chunk: &Vec<u8>| chunks.acquire(&digest(chunk), Purpose::Metadata).unwrap();
        let sources = stored.iter().map(open).collect();
        Self {
            data,
            compressed,
            chunks,
            sources,
        }
    }

    /// Reads chunk `index` by a slot of `mounted`; whether it was held.
    fn read(&self, mounted: &Mounted, index: usize) -> bool {
        let stored = self.compressed.as_ref().unwrap_or(&self.data);
        let key = Key {
            compressed: self.compressed.is_some(),
            ..key(mounted, &stored[index])
        };
        let mut taken = mounted.take(&key).unwrap();
        let slot = taken.slot().unwrap();
        let was_held = slot.holds(&key);
        let stored = self.chunks.stored(&self.sources[index], Purpose::Metadata);
        let stored = stored.unwrap();
        slot.load(&key, &stored).unwrap();
        let mut loaded = slot.loaded(&key, &stored).unwrap();
        let size = loaded.size();
        assert!(loaded.content(size).unwrap() == &self.data[index][..]);
        was_held
    }
}

#[test]
fn a_chunk_is_read_from_the_slot_that_holds_it() {
    let some = Sample::new(9, 5000);
    let pool = Pool::new().unwrap();
    let mounted = Pool::mount(&pool).unwrap();
    for index in 0..8 {
        assert!(!some.read(&mounted, index));
    }
    let verified = some.chunks.counters().chunks_verified.get();
    for index in 0..8 {
        assert!(some.read(&mounted, index), "chunk {index} is still there");
    }
    assert_eq!(some.chunks.counters().chunks_verified.get(), verified);
    // There are eight: the ninth takes the place of the one that was not used for longest.
    assert!(!some.read(&mounted, 8));
    assert!(!some.read(&mounted, 0), "it had to go");
    // Another mount has none of them, whatever it says.
    let other = Pool::mount(&pool).unwrap();
    assert!(!some.read(&other, 8));
}

#[test]
fn slots_of_a_mount_are_bounded_and_who_waits_can_be_killed() {
    let pool = Pool::new().unwrap();
    let mounted = Pool::mount(&pool).unwrap();
    let key = key(&mounted, b"any");
    let taken: Vec<_> = (0..PERMITS).map(|_| mounted.take(&key).unwrap()).collect();
    assert!(mounted.try_take(&key).is_none());
    let other = Pool::mount(&pool).unwrap();
    assert!(other.try_take(&key).is_some(), "another mount has its own");
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            sender.send(task::killer()).unwrap();
            mounted.take(&key).err()
        });
        receiver.recv().unwrap().store(true, Ordering::Relaxed);
        assert_eq!(waiter.join().unwrap(), Some(EINTR));
        // Who is not killed gets one when it is given back.
        let waiter = scope.spawn(|| mounted.take(&key).err());
        thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(taken);
        assert_eq!(waiter.join().unwrap(), None);
    });
}

#[test]
fn idle_slots_are_given_back() {
    let some = Sample::new(6, 100_000);
    let before = alloc::in_use();
    let pool = Pool::new().unwrap();
    let mounted = Pool::mount(&pool).unwrap();
    assert!((0..6).all(|index| !some.read(&mounted, index)));
    let pages = pool.count();
    assert_eq!(pages, (6 * 100_000_usize).div_ceil(4096));
    assert_eq!(pool.shrink(30), 50, "the two oldest");
    assert_eq!(pool.count(), (4 * 100_000_usize).div_ceil(4096));
    assert!(some.read(&mounted, 5) && !some.read(&mounted, 0));
    pool.shrink(usize::MAX);
    assert_eq!(pool.count(), 0);
    assert!(!some.read(&mounted, 5));
    // What is in use is not given back, and is kept afterwards.
    let key = key(&mounted, &some.data[5]);
    let taken = mounted.take(&key).unwrap();
    assert_eq!(pool.shrink(usize::MAX), 0);
    drop(taken);
    assert!(some.read(&mounted, 5));
    drop(mounted);
    assert_eq!(pool.count(), 0, "the last mount empties it");
    drop(pool);
    assert_eq!(alloc::in_use(), before);
}

#[test]
fn slots_do_not_keep_more_than_they_may() {
    let some = Sample::compressed(8, limits::MAX_CHUNK_BYTES as usize);
    let pool = Pool::new().unwrap();
    let mounted = Pool::mount(&pool).unwrap();
    assert!((0..8).all(|index| !some.read(&mounted, index)));
    let most = 8 * (1536 << 10);
    assert!(pool.count() * 4096 <= most, "{} pages", pool.count());
    assert!(some.read(&mounted, 7), "the last one is there");
}

#[test]
fn a_slot_that_is_given_back_late_goes() {
    let some = Sample::new(1, 5000);
    let pool = Pool::new().unwrap();
    let other = Pool::mount(&pool).unwrap();
    let mounted = Pool::mount(&pool).unwrap();
    assert!(!some.read(&mounted, 0));
    drop(mounted);
    assert!(pool.count() > 0, "there is another mount");
    drop(other);
    assert_eq!(pool.count(), 0);
}
