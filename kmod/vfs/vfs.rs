// SPDX-License-Identifier: GPL-2.0

//! Safe objects of the VFS, for filesystems that only read, and of what else such a
//! filesystem calls: SHA-256, zstd, the log, sysfs.
//!
//! Each object of the C kernel has a type of its own here, with the states that
//! the C code has by convention as types: [`SuperBlock`] being filled or ready,
//! [`NewInode`] locked and [`Inode`] published, the folios of a [`ReadWindow`] locked
//! until filled.
//! A filesystem implements [`FileSystem`] and needs no `unsafe`.
//!
//! This crate knows nothing of any one filesystem.
//!
//! C headers: `include/linux/fs.h`, `include/linux/fs_context.h`,
//! `include/linux/pagemap.h`, `include/linux/namei.h`.

#![cfg_attr(not(CONFIG_RUST), no_std)]

mod address_space;
mod backing_dev;
mod bindings;
mod bit_lock;
mod cache_reader;
pub mod context;
mod credentials;
mod dentry;
mod export;
mod fiemap;
mod file;
mod filesystem;
mod filter;
mod folio;
mod fs_verity;
mod inode;
mod inode_slab;
mod log;
pub mod lower;
pub mod lz4;
mod output;
pub mod parallel;
mod private_cache;
mod pseudo_mount;
mod semaphore;
pub mod sha256;
mod shared_mapping;
mod shrinker;
mod stat;
mod super_block;
mod sysfs;
mod task;
mod xattr;
pub mod zstd;

pub use address_space::ReadWindow;
pub use bit_lock::{BitGuard, BitLocks};
pub use cache_reader::CacheReader;
pub use context::{Log, ParameterSpec, Value};
pub use file::{DirEmitter, SeekTo};
pub use filesystem::{FileSystem, Registration};
pub use fs_verity::FsVerity;
pub use inode::{Attributes, DirEntryType, Iget, Inode, InodeKind, InodeRef, NewInode};
pub use log::KernelLog;
pub use output::Output;
pub use private_cache::PrivateCache;
pub use semaphore::{Permit, Semaphore};
pub use shared_mapping::{Fingerprint, SharedCache, SharedCaches};
pub use shrinker::{Shrink, Shrinker};
pub use super_block::{Mounting, New, Ready, Statfs, SuperBlock};
pub use sysfs::Attribute;
pub use task::{killed, without_fs_reclaim};
pub use xattr::XattrLister;
