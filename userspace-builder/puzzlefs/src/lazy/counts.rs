// SPDX-License-Identifier: Apache-2.0
//! What came from where.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The kind of a source that is none: other packs of this node.
pub const NODE: &str = "node";

/// What came from the sources of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Chunks that were written.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests, the failed ones too.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

/// What came, by kinds of sources: [`NODE`], or as [`crate::remote::Place::kind`] calls them.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<&'static str, Count>>);

impl Counts {
    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, Count>> {
        // Each statement leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chunk of so many bytes came.
    pub fn came(&self, kind: &'static str, bytes: u64) {
        let mut all = self.all();
        let count = all.entry(kind).or_default();
        count.chunks += 1;
        count.bytes += bytes;
    }

    /// A request was made.
    pub fn asked(&self, kind: &'static str) {
        self.all().entry(kind).or_default().requests += 1;
    }

    /// One has failed.
    pub fn failed(&self, kind: &'static str) {
        self.all().entry(kind).or_default().failures += 1;
    }

    /// All of them.
    pub fn get(&self) -> BTreeMap<&'static str, Count> {
        self.all().clone()
    }

    /// Requests to all.
    pub fn requests(&self) -> u64 {
        self.all().values().map(|count| count.requests).sum()
    }
}
