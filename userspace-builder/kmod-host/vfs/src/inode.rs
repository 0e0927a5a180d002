// SPDX-License-Identifier: GPL-2.0

//! What the VFS is told of inodes, and what takes lists of them.

use kernel::prelude::*;

/// The type of a directory entry, as `readdir(3)` shows it.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirEntryType {
    Fifo,
    CharDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

/// What an inode is.
#[derive(Debug, PartialEq, Eq)]
pub enum InodeKind<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// The attributes of a new inode.
#[derive(Debug)]
pub struct Attributes<'a> {
    /// What it is.
    pub kind: InodeKind<'a>,
    /// Permission bits with set-id and sticky bits (`07777`).
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Tells this inode from others that had or have its number, in file handles.
    pub generation: u32,
    /// Whether it may have a POSIX ACL.
    pub acl: bool,
    /// Number of links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of it that are in holes.
    pub holes: u64,
    /// All times, in seconds since the epoch.
    pub time_sec: i64,
    /// Nanoseconds of all times.
    pub time_nsec: u32,
}

/// What a seek looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// Takes the entries of a directory (`struct dir_context`).
#[derive(Debug)]
pub struct DirEmitter<'a> {
    position: u64,
    room: usize,
    entries: &'a mut Vec<(Vec<u8>, u64, DirEntryType)>,
}

impl<'a> DirEmitter<'a> {
    /// The position of the first two entries, `.` and `..`, that the VFS crate emits.
    pub const FIRST: u64 = 2;

    /// Takes up to `room` entries from `position` on.
    pub fn new(
        position: u64,
        room: usize,
        entries: &'a mut Vec<(Vec<u8>, u64, DirEntryType)>,
    ) -> Self {
        Self {
            position,
            room,
            entries,
        }
    }

    /// The position of the next entry, [`DirEmitter::FIRST`] or more.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves on to `position` without an entry.
    pub fn skip_to(&mut self, position: u64) {
        self.position = position.min(i64::MAX as u64);
    }

    /// Emits the entry at the current position, and moves to the next. Returns false,
    /// and stays, when the emitter is full.
    #[must_use]
    pub fn emit(&mut self, name: &[u8], ino: u64, kind: DirEntryType) -> bool {
        if self.entries.len() >= self.room {
            return false;
        }
        self.entries.push((name.to_vec(), ino, kind));
        self.position += 1;
        true
    }
}

/// Takes the names of an inode's extended attributes: all of them, in the order that they come.
#[derive(Debug)]
pub struct XattrLister<'a>(pub &'a mut Vec<Vec<u8>>);

impl XattrLister<'_> {
    /// Adds a full name.
    ///
    /// # Errors
    ///
    /// None: there is room.
    pub fn add(&mut self, name: &[u8]) -> Result {
        self.0.push(name.to_vec());
        Ok(())
    }
}
