// SPDX-License-Identifier: Apache-2.0
//! Decoded chunks that were read lately, as many as fit into so many bytes. One that many want at the
//! same time is decoded once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::filesystem::Answer;
use crate::image::chunk::Key;

/// Content of a chunk.
pub type Chunk = Arc<Vec<u8>>;

/// The cache.
pub struct Decoded {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<Key, Slot>,
    /// The chunks that are there, the one that was not used for longest first.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

enum Slot {
    /// Somebody decodes it.
    Busy(Arc<Flight>),
    /// It is there, and was used last at this time.
    There(Chunk, u64),
}

/// What becomes of a chunk that somebody decodes.
#[derive(Default)]
struct Flight {
    outcome: Mutex<Option<Answer<Chunk>>>,
    landed: Condvar,
}

impl Flight {
    fn land(&self, outcome: Answer<Chunk>) {
        *locked(&self.outcome) = Some(outcome);
        self.landed.notify_all();
    }

    fn wait(&self) -> Answer<Chunk> {
        let mut outcome = locked(&self.outcome);
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            outcome = self
                .landed
                .wait(outcome)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a flight, also if who decodes panics: others wait for it.
struct Landing<'a> {
    cache: &'a Decoded,
    key: Key,
    flight: Arc<Flight>,
    outcome: Answer<Chunk>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.cache.state);
        state.slots.remove(&self.key);
        if let Ok(chunk) = &self.outcome {
            state.insert(self.key, chunk.clone(), self.cache.limit);
        }
        drop(state);
        self.flight.land(self.outcome.clone());
    }
}

impl State {
    fn insert(&mut self, key: Key, chunk: Chunk, limit: usize) {
        // What is larger than all that may be kept would drive out everything.
        if chunk.len() > limit / 2 {
            return;
        }
        self.bytes += chunk.len();
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        self.slots.insert(key, Slot::There(chunk, self.uses));
        while self.bytes > limit {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            if let Some(Slot::There(chunk, _)) = self.slots.remove(&oldest) {
                self.bytes -= chunk.len();
            }
        }
    }

    /// The chunk, which now counts as used last.
    fn used(&mut self, key: &Key) -> Option<Chunk> {
        let Some(Slot::There(chunk, time)) = self.slots.get_mut(key) else {
            return None;
        };
        self.uses += 1;
        self.by_use.remove(time);
        self.by_use.insert(self.uses, *key);
        *time = self.uses;
        Some(chunk.clone())
    }
}

impl Decoded {
    /// An empty one, which keeps up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Decoded {
            limit,
            state: Mutex::default(),
        }
    }

    /// Whether the chunk is there.
    pub fn has(&self, key: &Key) -> bool {
        matches!(locked(&self.state).slots.get(key), Some(Slot::There(..)))
    }

    /// The chunk `key`, by `decode` if it is not there. Whoever asks for it meanwhile gets the same, or the
    /// same error. Errors are not kept.
    pub fn get(&self, key: Key, decode: impl FnOnce() -> Answer<Vec<u8>>) -> Answer<Chunk> {
        let mut state = locked(&self.state);
        if let Some(chunk) = state.used(&key) {
            return Ok(chunk);
        }
        if let Some(Slot::Busy(flight)) = state.slots.get(&key) {
            let flight = flight.clone();
            drop(state);
            return flight.wait();
        }
        let flight = Arc::new(Flight::default());
        state.slots.insert(key, Slot::Busy(flight.clone()));
        drop(state);
        let mut landing = Landing {
            cache: self,
            key,
            flight,
            outcome: Err(Errno::IO),
        };
        landing.outcome = decode().map(Arc::new);
        landing.outcome.clone()
    }

    /// Bytes of the chunks that are there.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        locked(&self.state).bytes
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use puzzlefs_format::Digest;

    use super::*;

    fn key(number: u8) -> Key {
        (Digest::from_bytes([number; 32]), true)
    }

    #[test]
    fn the_ones_that_were_used_lately_stay_within_the_limit() {
        let cache = Decoded::new(1000);
        let decoded = AtomicUsize::new(0);
        let get = |number: u8, len: usize| {
            let decode = || {
                decoded.fetch_add(1, Ordering::Relaxed);
                Ok(vec![number; len])
            };
            let chunk = cache.get(key(number), decode).unwrap();
            assert_eq!(*chunk, vec![number; len]);
            decoded.swap(0, Ordering::Relaxed) == 1
        };
        assert!(get(1, 400) && get(2, 400));
        assert!(!get(1, 400));
        // 2 was not used for longest.
        assert!(get(3, 400));
        assert!(cache.bytes() <= 1000);
        assert!(!get(1, 400) && !get(3, 400));
        assert!(get(2, 400));
        // One that is too large is not kept, and drives out nothing.
        assert!(get(4, 900) && get(4, 900));
        assert!(!get(2, 400));
        assert!(cache.bytes() <= 1000);
    }

    #[test]
    fn many_readers_decode_once() {
        let cache = Decoded::new(1000);
        let decoded = AtomicUsize::new(0);
        for outcome in [Ok(vec![7; 10]), Err(Errno::IO)] {
            let number = outcome.is_ok().into();
            thread::scope(|scope| {
                let read = || {
                    cache.get(key(number), || {
                        decoded.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(300));
                        outcome.clone()
                    })
                };
                let readers: Vec<_> = (0..8).map(|_| scope.spawn(read)).collect();
                for reader in readers {
                    let read = reader.join().unwrap();
                    assert_eq!(read.map(|chunk| chunk.to_vec()), outcome);
                }
            });
            assert_eq!(decoded.swap(0, Ordering::Relaxed), 1);
        }
        // An error is not for ever.
        assert!(cache.get(key(0), || Ok(vec![1])).is_ok());
    }

    #[test]
    fn nobody_waits_for_who_panics() {
        let cache = Decoded::new(1000);
        let panics = || cache.get(key(1), || panic!("as the test wants it"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(cache.get(key(1), || Ok(vec![1])).is_ok());
    }
}
