// SPDX-License-Identifier: GPL-2.0

//! What is counted of an image's reads, and sysfs shows in `/sys/fs/puzzlefs/MAJOR:MINOR`.
//!
//! `Documentation/ABI/testing/sysfs-fs-puzzlefs` (`in-tree/` here) says it for users.

use crate::image::Image;
use kernel::sync::atomic::{Atomic, Relaxed};
use vfs::{Attribute, SuperBlock};

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
    /// Chunks that other processors' workers verified and decompressed for a reader.
    pub(crate) chunks_helped: Counter,
    /// Times that a chunk was wanted and still at hand: verified in a slot, or as a copy of its
    /// content in the mount's cache.
    pub(crate) chunk_hits: Counter,
    /// Bytes of chunks read from the layout, as stored.
    pub(crate) bytes_read: Counter,
    /// Bytes put into the page cache of files, zeroes too.
    pub(crate) bytes_filled: Counter,
    /// Blocks of metadata put into memory.
    pub(crate) metadata_blocks: Counter,
    /// Times that a chunk was not what its digest says.
    pub(crate) verify_failures: Counter,
    /// Times that a chunk could not be had otherwise: missing, unreadable, not of its form.
    pub(crate) chunk_errors: Counter,
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
    Some(&Attribute::number(c"chunks_verified", |sb| {
        stats(sb).chunks_verified.get()
    })),
    Some(&Attribute::number(c"chunks_helped", |sb| {
        stats(sb).chunks_helped.get()
    })),
    Some(&Attribute::number(c"chunk_hits", |sb| {
        stats(sb).chunk_hits.get()
    })),
    Some(&Attribute::number(c"bytes_read", |sb| {
        stats(sb).bytes_read.get()
    })),
    Some(&Attribute::number(c"bytes_filled", |sb| {
        stats(sb).bytes_filled.get()
    })),
    Some(&Attribute::number(c"metadata_blocks", |sb| {
        stats(sb).metadata_blocks.get()
    })),
    Some(&Attribute::number(c"verify_failures", |sb| {
        stats(sb).verify_failures.get()
    })),
    Some(&Attribute::number(c"chunk_errors", |sb| {
        stats(sb).chunk_errors.get()
    })),
    None,
];

fn stats(sb: &SuperBlock<Image>) -> &Stats {
    sb.data().store().stats()
}
