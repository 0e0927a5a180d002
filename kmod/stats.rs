// SPDX-License-Identifier: GPL-2.0

//! What is counted of an image's reads, and sysfs shows in `/sys/fs/puzzlefs/MAJOR:MINOR`.
//!
//! `Documentation/ABI/testing/sysfs-fs-puzzlefs` (`in-tree/` here) says it for users.

use crate::image::Image;
use kernel::sync::atomic::{Atomic, Relaxed};
use vfs::Attribute;

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

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of an image. Each is touched once for a chunk or for what is made of one, never
/// for a page; together they have cache lines of their own, since what lies beside is only read.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Stats {
    /// Chunks that were read, and are what their digests say.
    pub(crate) chunks_verified: Counter,
    /// Chunks that were read from packs that fs-verity vouches for, and not hashed.
    pub(crate) chunks_vouched: Counter,
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

/// The file of a counter.
macro_rules! counter {
    ($name:literal, $counter:ident) => {
        Some(&Attribute::number($name, |sb| {
            sb.data().store().stats().$counter.get()
        }))
    };
}

/// The files in the directory of a superblock.
pub(crate) const ATTRIBUTES: &[Option<&Attribute<Image>>] = &[
    Some(&Attribute::text(c"rootfs", |sb| {
        sb.data().metadata().digest()
    })),
    Some(&Attribute::number(c"version", |sb| {
        sb.data().store().version()
    })),
    Some(&Attribute::number(c"blobs_open", |sb| {
        sb.data().store().open_blobs() as u64
    })),
    counter!(c"chunks_verified", chunks_verified),
    counter!(c"chunks_vouched", chunks_vouched),
    counter!(c"chunks_helped", chunks_helped),
    counter!(c"chunk_hits", chunk_hits),
    counter!(c"bytes_read", bytes_read),
    counter!(c"bytes_filled", bytes_filled),
    counter!(c"metadata_blocks", metadata_blocks),
    counter!(c"verify_failures", verify_failures),
    counter!(c"chunk_errors", chunk_errors),
    None,
];
