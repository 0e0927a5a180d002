// SPDX-License-Identifier: Apache-2.0
//! Builds, reads, checks, extracts and mounts PuzzleFS images in OCI layouts.
//!
//! ```text
//! build:  scan -> tree -> content (file, chunker, batch, compress) -> store -> metadata, manifest -> layout
//! read:   layout -> image (the format core) -> inspect, list, verify, extract
//! ```
//!
//! The reading side uses the parser that the kernel module is built from,
//! [`puzzlefs_format`]; schema/FORMAT.md specifies the format.

pub mod batch;
mod beneath;
mod blocks;
pub mod build;
pub mod chunk;
pub mod chunker;
pub mod compress;
pub mod content;
pub mod convert;
pub mod delta;
pub mod digest;
pub mod du;
pub mod extract;
mod file;
pub mod gc;
pub mod image;
pub mod inspect;
pub mod layout;
pub mod list;
pub mod manifest;
mod message;
pub mod metadata;
pub mod mount;
pub mod overlay;
pub mod pack;
pub mod pipeline;
pub mod places;
pub mod profile;
pub mod progress;
pub mod reach;
mod record;
pub mod reference;
pub mod scan;
mod segment;
pub mod sink;
pub mod stats;
pub mod store;
pub mod text;
pub mod time;
pub mod tree;
pub mod verify;
pub mod verity;
pub mod walk;
pub mod work;
mod xattr;

// Indices that are kept as u32 become usize by `as`.
const _: () = assert!(usize::BITS >= u32::BITS);
