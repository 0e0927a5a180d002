// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! The PuzzleFS image format, as FORMAT.md specifies it: manifests, metadata,
//! packs, zstd frames with their seek tables and LZ4 frames, read in place from untrusted bytes.
//!
//! One source for both sides: Kbuild compiles it into the module, cargo into the
//! CLI. So it knows neither `std` nor `kernel`, allocates nothing, and borrows
//! everything from the `&[u8]`, or the [`Source`], that it was given.
//!
//! Images are hostile. Nothing here panics, recurses, or does more work than its
//! documentation says, whatever the bytes. The lints below hold the line: no
//! arithmetic that can overflow, no index that can be out of bounds, no `as`.
//!
//! Sizes, lengths and offsets are in bytes unless an item says otherwise.

// Kbuild passes -Zcrate-attr=no_std itself.
#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![deny(clippy::as_conversions, clippy::string_slice)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blocks;
mod capnp;
mod digest;
mod dir;
mod encoding;
mod entry;
mod error;
mod extent;
mod inode;
mod json;
pub mod limits;
mod listing;
mod lz4;
mod manifest;
mod pack;
mod rootfs;
mod seek_table;
mod source;
mod xattr;
mod zstd_frame;

pub use blocks::{Block, Blocks, RootfsBlob};
pub use digest::Digest;
pub use dir::{Dir, DirPlace};
pub use encoding::Encoding;
pub use entry::DirEntry;
pub use error::Error;
pub use extent::{locate, ChunkRef, Extent, Extents, Located};
pub use inode::{Device, FileType, Inode, Kind, Timespec};
pub use json::Str;
pub use listing::Listing;
pub use lz4::Lz4Frame;
pub use manifest::{
    blob_kind, BlobKind, Descriptor, Layers, Manifest, ANNOTATION_FS_VERITY, MEDIA_TYPE_CHUNK,
    MEDIA_TYPE_CHUNK_LZ4, MEDIA_TYPE_CHUNK_ZSTD, MEDIA_TYPE_MANIFEST, MEDIA_TYPE_PROFILE,
    MEDIA_TYPE_ROOTFS,
};
pub use pack::{PackEntry, PackIndex, PackTrailer, MEDIA_TYPE_PACK};
pub use rootfs::{
    InodeVector, LiveEntries, Rootfs, RootfsHead, VerityData, VerityDatum, ROOT_INO, VERSION_BASE,
    VERSION_BLOCKS, VERSION_HOLES, VERSION_LZ4,
};
pub use seek_table::{Frame, Frames, SeekTable};
pub use source::{Part, Source};
pub use xattr::{xattr_is_shown, Xattr, Xattrs};
pub use zstd_frame::ZstdFrame;
