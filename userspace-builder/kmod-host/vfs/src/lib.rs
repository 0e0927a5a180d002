// SPDX-License-Identifier: GPL-2.0

//! What the kernel module takes of its `vfs` crate, in user space, as far as its rooms need it.
//! Each item does what the one of that name in `kmod/vfs` does, and names the functions of the
//! kernel that it stands for. Beyond that a test can say what happens around it: what the layout
//! holds and which reads fail ([`lower::Layout`]), which pages are reclaimed
//! ([`folio::Pressure`]), which folios a window has ([`PageCache`]), when the task is killed
//! ([`task`]).

mod bit_lock;
mod cache_reader;
pub mod folio;
mod inode;
mod log;
pub mod lower;
pub mod lz4;
mod output;
pub mod parallel;
mod private_cache;
mod semaphore;
pub mod sha256;
mod shared_mapping;
mod shrinker;
pub mod task;
mod window;
pub mod zstd;

pub use bit_lock::{BitGuard, BitLocks};
pub use cache_reader::CacheReader;
pub use inode::{Attributes, DirEmitter, DirEntryType, InodeKind, SeekTo, XattrLister};
pub use log::{KernelLog, Lines, Log};
pub use lower::FsVerity;
pub use output::Output;
pub use private_cache::PrivateCache;
pub use semaphore::{Permit, Semaphore};
pub use shared_mapping::{Fingerprint, SharedCache, SharedCaches};
pub use shrinker::Shrink;
pub use task::{killed, without_fs_reclaim};
pub use window::{PageCache, ReadWindow};
