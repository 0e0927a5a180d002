// SPDX-License-Identifier: Apache-2.0
//! Reading the host's files: each must stay as it was when the tree was scanned.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use crate::host::beneath;
use crate::host::stat::{Facts, Stat};
use crate::tree::Tree;

const CHANGED: &str = "it changed during the build; the tree must not change meanwhile";

/// Bytes of a file that are read at once.
const PIECE: u64 = 128 << 10;
/// So much at a file's end is read whatever the filesystem says of it. tmpfs calls the last folio
/// of a file of 2^63 - 1 bytes a hole, as the folio's end does not fit into 64 bits; a folio has
/// 2 MiB at most.
const TAIL: u64 = 2 << 20;

/// Opens files of a scanned tree, best in order of their numbers.
pub struct Source<'a> {
    root: &'a OwnedFd,
    facts: &'a [Facts],
    opened: u64,
    /// The directory opened last, by its number.
    dir: Option<(u32, OwnedFd)>,
}

impl<'a> Source<'a> {
    /// Files below `root`, of which the scan found `facts`.
    pub fn new(root: &'a OwnedFd, facts: &'a [Facts]) -> Self {
        Source {
            root,
            facts,
            opened: 0,
            dir: None,
        }
    }

    /// How many files were opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Reads a whole file into `buffer`.
    pub fn read_small(&mut self, tree: &Tree, ino: u32, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        let mut file = self.open(tree, ino, false)?;
        file.append(buffer, usize::try_from(file.size)?)?;
        file.finish()
    }

    /// Opens a file; with `holes` what the filesystem calls a hole need not be read.
    pub fn open(&mut self, tree: &Tree, ino: u32, holes: bool) -> Result<Opened> {
        let node = tree.node(ino);
        let dir = match self.dir.take() {
            Some((number, fd)) if number == node.parent => fd,
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                beneath::open(self.root, &tree.path(node.parent), flags)
                    .context("opening its directory")?
            }
        };
        let name = Path::new(std::ffi::OsStr::from_bytes(tree.text(node.name)));
        // NONBLOCK: should it have become a FIFO, the build must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = beneath::open(&dir, name, flags);
        self.dir = Some((node.parent, dir));
        let fd = match opened {
            Err(e @ (Errno::NOENT | Errno::LOOP)) => return Err(e).context(CHANGED),
            Err(e @ Errno::ACCESS) => {
                return Err(e).context("it is not readable; build as root, or make it so")
            }
            fd => fd.context("opening it")?,
        };
        self.opened += 1;
        let stat = Stat::of(&fd)?;
        let facts = self.facts[ino as usize - 1];
        ensure!(stat.facts == facts, CHANGED);
        let size = facts.size;
        // Where nothing is saved, there is nothing to ask for: all of it is read.
        let is_sparse = stat.blocks < size / 512;
        Ok(Opened {
            file: File::from(fd),
            facts,
            size,
            at: 0,
            asked: if holes && is_sparse { 0 } else { size },
        })
    }
}

/// A file that is being read.
pub struct Opened {
    file: File,
    facts: Facts,
    size: u64,
    at: u64,
    /// Up to here all is read.
    asked: u64,
}

impl Opened {
    /// Fills `buffer` with the bytes at the present position; it stays empty at the end of the file.
    /// Returns how many zeros are in front of them, which the filesystem calls a hole.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<u64> {
        buffer.clear();
        let zeros = match self.at == self.asked && self.at < self.size {
            true => self.skip(),
            false => 0,
        };
        let left = self.asked - self.at;
        self.append(buffer, usize::try_from(left.min(PIECE))?)?;
        Ok(zeros)
    }

    /// Skips a hole, and asks where the next one begins.
    fn skip(&mut self) -> u64 {
        let start = self.at;
        let tail = self.size.saturating_sub(TAIL);
        // What cannot be asked is data.
        let data = self.seek(SeekFrom::Data(start)).unwrap_or(start);
        self.at = data.min(tail).max(start);
        let hole = self.seek(SeekFrom::Hole(self.at)).unwrap_or(self.size);
        self.asked = match self.at >= tail {
            true => self.size,
            // A piece at least, so that it goes on wherever that is.
            false => hole.max(self.at.saturating_add(PIECE)).min(self.size),
        };
        self.at - start
    }

    fn seek(&self, to: SeekFrom) -> Option<u64> {
        match rustix::fs::seek(self.file.as_fd(), to) {
            // Only a hole up to the end is left.
            Err(Errno::NXIO) => Some(self.size),
            at => Some(at.ok()?.min(self.size)),
        }
    }

    /// Appends the next `len` bytes to `buffer`.
    pub fn append(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<()> {
        let start = buffer.len();
        buffer.resize(start + len, 0);
        let read = self.file.read_exact_at(&mut buffer[start..], self.at);
        match read {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(e).context(CHANGED),
            read => read.context("reading it"),
        }?;
        self.at += len as u64;
        Ok(())
    }

    /// Checks that the file did not change while it was read.
    pub fn finish(self) -> Result<()> {
        ensure!(Stat::of(&self.file)?.facts == self.facts, CHANGED);
        Ok(())
    }
}
