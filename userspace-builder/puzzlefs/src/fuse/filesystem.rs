// SPDX-License-Identifier: Apache-2.0
//! What a read-only filesystem answers to whoever serves it. Neither images nor FUSE are known here.

use std::ops::{Deref, Range};
use std::sync::Arc;

use puzzlefs_format::{FileType, Timespec};
use rustix::io::Errno;

use crate::lazy::Patience;

/// What a caller of the filesystem gets.
pub type Answer<T> = std::result::Result<T, Errno>;

/// What stat(2) shows of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its number, not 0.
    pub ino: u64,
    /// What it is.
    pub file_type: FileType,
    /// Its permissions with set-uid, set-gid and sticky: 12 bits.
    pub permissions: u16,
    /// Its number of links.
    pub nlink: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Of a device: its major number of 12 bits and its minor number of 20.
    pub device: (u32, u32),
    /// Bytes of a file or a symbolic link, entries of a directory.
    pub size: u64,
    /// Units of 512 bytes that it takes, holes left out.
    pub blocks: u64,
    /// All of its times.
    pub time: Timespec,
}

/// An entry of a directory that is listed.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The inode's number.
    pub ino: u64,
    /// Its name.
    pub name: &'a [u8],
    /// What the inode is.
    pub file_type: FileType,
    /// Where to go on behind it.
    pub next: u64,
    /// What stat(2) shows of it, if that was asked for and can be had.
    pub attributes: Option<Attributes>,
}

/// Bytes of a file.
#[derive(Debug)]
pub enum Bytes {
    /// A part of a chunk that others read as well.
    Shared(Arc<Vec<u8>>, Range<usize>),
    /// Put together for this answer.
    Own(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Shared(chunk, range) => chunk.get(range.clone()).unwrap_or_default(),
            Bytes::Own(bytes) => bytes,
        }
    }
}

/// What lseek(2) is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// Bytes that are stored (`SEEK_DATA`).
    Data,
    /// A hole, or the end (`SEEK_HOLE`).
    Hole,
}

/// What statfs(2) shows. All of it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}

/// A read-only filesystem. Inodes are named by their numbers; that of the root is 1. Nothing ever
/// changes, so answers may be kept. Many threads ask at once. Each answer comes in a bounded time, but for
/// [`Self::read`].
pub trait Filesystem: Send + Sync {
    /// Tells inodes of this filesystem from those of another one that have the same number.
    fn generation(&self) -> u32;

    /// What `name` in the directory `dir` is, if there is such a name.
    fn lookup(&self, dir: u64, name: &[u8]) -> Answer<Option<Attributes>>;

    /// What is inode `ino`; `ESTALE` if there is none.
    fn attributes(&self, ino: u64) -> Answer<Attributes>;

    /// The directory that the directory `dir` is in; `ESTALE` if that is not recorded.
    fn parent(&self, dir: u64) -> Answer<Attributes>;

    /// Calls `each` with the entries of `dir` from position `from` on, 0 for the first, with their
    /// attributes if `attributes` says so, until it returns false.
    fn list(
        &self,
        dir: u64,
        from: u64,
        attributes: bool,
        each: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Answer<()>;

    /// The target of a symbolic link.
    fn link_target(&self, ino: u64) -> Answer<Vec<u8>>;

    /// The `len` bytes of a file from `offset` on, fewer only at its end. What has to be fetched first takes the time that
    /// `patience` has: without any it is `EAGAIN`, and `EINTR` for who has gone meanwhile.
    fn read(&self, ino: u64, offset: u64, len: usize, patience: &Patience<'_>) -> Answer<Bytes>;

    /// Where from `offset` on there is what is sought; `ENXIO` if nowhere.
    fn seek(&self, ino: u64, offset: u64, to: SeekTo) -> Answer<u64>;

    /// The value of the extended attribute `name`; `ENODATA` if there is none.
    fn xattr(&self, ino: u64, name: &[u8]) -> Answer<Vec<u8>>;

    /// The names of all extended attributes that are shown, each ended by a NUL. Those of `trusted.` only
    /// if `trusted` says so.
    fn xattr_names(&self, ino: u64, trusted: bool) -> Answer<Vec<u8>>;

    /// What there is in all.
    fn statistics(&self) -> Answer<Statistics>;
}
