// SPDX-License-Identifier: Apache-2.0
//! Builds, converts, reads, checks, extracts and mounts PuzzleFS images in OCI layouts.
//!
//! The rooms, from the top down; each imports only what stands below it:
//!
//! - [`build`]: a directory tree of the host becomes an image, or an ordinary image does;
//! - `metadata`: writing the Rootfs, which may be a delta on a base image;
//! - [`pull`]: an image comes from elsewhere, as far as its chunks are not here;
//! - [`daemon`]: what is read of lazy packs is fetched;
//! - [`snapshotter`]: containerd runs images;
//! - [`upkeep`]: removing garbage, and putting chunks into packs and out of them;
//! - [`reports`]: what an image or a layout holds;
//! - [`verify`]: checking an image;
//! - [`boot`]: an image that any runtime runs, and that gets its root filesystem when it starts;
//! - [`bundle`]: an image becomes what runtimes of containers run;
//! - [`extract`]: an image becomes a directory tree of the host;
//! - [`export`]: an image becomes a tar, or an ordinary image;
//! - [`profile`]: what a program reads of an image, in order;
//! - [`fuse`]: mounting by FUSE;
//! - [`mount`]: mounting by the kernel, with overlayfs above, and the kernel's counters;
//! - [`cache`]: what builds and pulls remember;
//! - [`image`]: an image that is open for reading;
//! - [`lazy`]: packs that are there before their chunks are;
//! - [`encode`]: where chunks begin and end, and how they are compressed;
//! - [`chunks`]: where chunks are stored, in packs or loose;
//! - [`source`]: ordinary images, wherever they are;
//! - `layers`: the layers of an ordinary image become one tree;
//! - [`remote`]: where images come from, whatever serves them;
//! - [`registry`]: a client of registries;
//! - [`layout`]: the OCI layout: blobs, tags, manifests;
//! - [`tree`]: a directory tree of the host, scanned;
//! - [`host`]: calls for files of the host;
//! - [`base`]: what knows nothing of images.
//!
//! The command itself, in main.rs and cli/, stands above all of them.
//!
//! What fails says so by an [`Error`].
//!
//! The reading side uses the parser that the kernel module is built from,
//! [`puzzlefs_format`]; schema/FORMAT.md specifies the format.

pub mod base;
pub mod boot;
pub mod build;
pub mod bundle;
pub mod cache;
pub mod chunks;
pub mod daemon;
pub mod encode;
pub mod export;
pub mod extract;
pub mod fuse;
pub(crate) mod host;
pub mod image;
pub(crate) mod layers;
pub mod layout;
pub mod lazy;
pub(crate) mod metadata;
pub mod mount;
pub mod profile;
pub mod pull;
pub mod registry;
pub mod remote;
pub mod reports;
#[cfg(feature = "command")]
pub mod snapshotter;
pub mod source;
pub(crate) mod tree;
pub mod upkeep;
pub mod verify;

pub use base::error::{Error, Fault, Result};

// Indices that are kept as u32 become usize by `as`.
const _: () = assert!(usize::BITS >= u32::BITS);
