// SPDX-License-Identifier: GPL-2.0

//! What is counted of an image's reads.

use kernel::sync::atomic::{Atomic, Relaxed};

/// A number that only grows, from 0 when the image is mounted. Counting orders nothing.
pub(crate) struct Counter(Atomic<u64>);

impl Default for Counter {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Counter {
    /// Counts `count` more.
    pub(crate) fn add(&self, count: u64) {
        self.0.add(count, Relaxed);
    }

    /// How many they are.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of an image. Each is touched once for a chunk or for what is made of one, never
/// for a page; together they have cache lines of their own, since what lies beside is only read.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    /// Chunks that were read, and are what their digests say.
    pub(crate) chunks_verified: Counter,
    /// Chunks that other processors' workers verified and decompressed for a reader.
    pub(crate) chunks_helped: Counter,
    /// Times that a chunk was wanted and still at hand: verified in a slot, or its content in a
    /// page cache of its own.
    pub(crate) chunk_hits: Counter,
    /// Bytes of chunks read from the layout, as stored.
    pub(crate) bytes_read: Counter,
    /// Bytes put into the page cache of files, zeroes too, or of chunks that files are read from.
    pub(crate) bytes_filled: Counter,
    /// Blocks of metadata put into memory.
    pub(crate) metadata_blocks: Counter,
    /// Times that a chunk was not what its digest says.
    pub(crate) verify_failures: Counter,
    /// Times that a chunk could not be had otherwise: missing, unreadable, not of its form.
    pub(crate) chunk_errors: Counter,
}
