// SPDX-License-Identifier: GPL-2.0

//! What sysfs shows of a mounted image, in `/sys/fs/puzzlefs/MAJOR:MINOR`.
//!
//! `Documentation/ABI/testing/sysfs-fs-puzzlefs` (`in-tree/` here) says it for users.

use super::Image;
use vfs::Attribute;

/// The file of a counter.
macro_rules! counter {
    ($name:literal, $counter:ident) => {
        Some(&Attribute::number($name, |sb| {
            sb.data().content().chunks().counters().$counter.get()
        }))
    };
}

/// The files in the directory of a superblock.
pub(crate) const ATTRIBUTES: &[Option<&Attribute<Image>>] = &[
    Some(&Attribute::text(c"rootfs", |sb| {
        sb.data().metadata().digest()
    })),
    Some(&Attribute::number(c"version", |sb| {
        sb.data().metadata().version()
    })),
    Some(&Attribute::number(c"blobs_open", |sb| {
        sb.data().content().chunks().open_blobs() as u64
    })),
    counter!(c"chunks_verified", chunks_verified),
    counter!(c"chunks_helped", chunks_helped),
    counter!(c"chunk_hits", chunk_hits),
    counter!(c"bytes_read", bytes_read),
    counter!(c"bytes_filled", bytes_filled),
    counter!(c"metadata_blocks", metadata_blocks),
    counter!(c"verify_failures", verify_failures),
    counter!(c"chunk_errors", chunk_errors),
    None,
];
