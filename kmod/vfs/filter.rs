// SPDX-License-Identifier: GPL-2.0

//! What is probably there.

use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// How many counters there are.
const COUNTERS: usize = 1024;

/// Counts things by some bits of their names (a counting Bloom filter with one hash). It takes no
/// lock. It never says of something that is there that it is not, once adding it has returned.
pub(crate) struct Filter(KVec<Atomic<u32>>);

impl Filter {
    /// Nothing is there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let mut counters = KVec::with_capacity(COUNTERS, GFP_KERNEL)?;
        for _ in 0..COUNTERS {
            counters.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self(counters))
    }

    /// Says that one more of this name is there.
    pub(crate) fn add(&self, name: &[u8; 16]) {
        if let Some(counter) = self.counter(name) {
            counter.add(1, Relaxed);
        }
    }

    /// Says that one of this name, which was added, is there no more.
    pub(crate) fn remove(&self, name: &[u8; 16]) {
        if let Some(counter) = self.counter(name) {
            counter.fetch_sub(1, Relaxed);
        }
    }

    /// Whether one of this name may be there.
    pub(crate) fn may_have(&self, name: &[u8; 16]) -> bool {
        self.counter(name)
            .is_none_or(|counter| counter.load(Relaxed) > 0)
    }

    fn counter(&self, name: &[u8; 16]) -> Option<&Atomic<u32>> {
        let [first, second, ..] = *name;
        let number = usize::from(u16::from_le_bytes([first, second])) % COUNTERS;
        self.0.get(number)
    }
}
