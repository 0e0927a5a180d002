// SPDX-License-Identifier: Apache-2.0
//! Reading the host's files: each must stay as it was when the tree was scanned.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use rustix::fs::{FileType, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::host::beneath;
use crate::tree::scan::clamped;
use crate::tree::{Body, Node, Tree};

const CHANGED: &str = "it changed during the build; the tree must not change meanwhile";

/// A hole shorter than this is stored as zeros: it would cost a reader more extents
/// than it saves, and zeros compress to nothing.
pub const HOLE_MIN: u64 = 64 << 10;
/// Holes begin and (but for the end of the file) end at a multiple of this, so that a
/// page never lies in a hole and in data.
pub const HOLE_ALIGN: u64 = 4096;

/// Opens files of a scanned tree, best in order of their numbers.
pub struct Source<'a> {
    root: &'a OwnedFd,
    clamp: Option<i64>,
    /// The directory opened last, by its number.
    dir: Option<(u32, OwnedFd)>,
}

impl<'a> Source<'a> {
    /// Files below `root`, scanned with `clamp`.
    pub fn new(root: &'a OwnedFd, clamp: Option<i64>) -> Self {
        Source {
            root,
            clamp,
            dir: None,
        }
    }

    /// Reads a whole file into `buffer`.
    pub fn read_small(&mut self, tree: &Tree, ino: u32, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        let mut file = self.open(tree, ino, false)?;
        file.append(buffer, usize::try_from(file.size)?)?;
        file.finish()
    }

    /// Opens a file; with `holes` its holes are told apart from its data.
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
        let stat = rustix::fs::fstat(&fd)?;
        let size = self.same(node, &stat).context(CHANGED)?;
        Ok(Opened {
            file: File::from(fd),
            before: stat,
            size,
            at: 0,
            holes,
        })
    }

    /// The file's size, if it is as scanned.
    fn same(&self, node: &Node, stat: &Stat) -> Option<u64> {
        let Body::File { size, .. } = node.body else {
            return None;
        };
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && u64::try_from(stat.st_size) == Ok(size)
            && clamped(stat, self.clamp) == (node.mtime, node.mtime_nsec))
            .then_some(size)
    }
}

/// A part of a file, with its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Bytes to read by [`Opened::append`].
    Data(u64),
    /// Zeros that are not stored.
    Hole(u64),
}

/// A file that is being read.
pub struct Opened {
    file: File,
    before: Stat,
    size: u64,
    at: u64,
    holes: bool,
}

impl Opened {
    /// The run at the present position, or `None` at the end of the file. A hole is
    /// thereby passed, data must be read.
    pub fn next_run(&mut self) -> Result<Option<Run>> {
        if self.at == self.size {
            return Ok(None);
        }
        if !self.holes {
            return Ok(Some(Run::Data(self.size - self.at)));
        }
        let start = self.at;
        let mut from = start;
        let run = loop {
            let hole = self.seek(SeekFrom::Hole(from))?;
            let data = self.seek(SeekFrom::Data(hole))?;
            let hole = hole
                .checked_next_multiple_of(HOLE_ALIGN)
                .map_or(self.size, |h| h.min(self.size));
            let end = if data == self.size {
                data
            } else {
                data - data % HOLE_ALIGN
            };
            if hole == self.size {
                break Run::Data(self.size - start);
            } else if end.saturating_sub(hole) < HOLE_MIN {
                from = data;
            } else if hole > start {
                break Run::Data(hole - start);
            } else {
                self.at = end;
                break Run::Hole(end - hole);
            }
            if from >= self.size {
                break Run::Data(self.size - start);
            }
        };
        rustix::fs::seek(self.file.as_fd(), SeekFrom::Start(self.at))?;
        Ok(Some(run))
    }

    fn seek(&self, to: SeekFrom) -> Result<u64> {
        match rustix::fs::seek(self.file.as_fd(), to) {
            // Only a hole up to the end is left.
            Err(Errno::NXIO) => Ok(self.size),
            at => Ok(at?.min(self.size)),
        }
    }

    /// Appends the next `len` bytes to `buffer`.
    pub fn append(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<()> {
        let len = u64::try_from(len)?;
        let got = self
            .file
            .by_ref()
            .take(len)
            .read_to_end(buffer)
            .context("reading it")?;
        ensure!(u64::try_from(got)? == len, CHANGED);
        self.at += len;
        Ok(())
    }

    /// Checks that the file did not change while it was read.
    pub fn finish(self) -> Result<()> {
        let after = rustix::fs::fstat(&self.file)?;
        let facts = |s: &Stat| {
            (
                s.st_size,
                s.st_mtime,
                s.st_mtime_nsec,
                s.st_ctime,
                s.st_ctime_nsec,
            )
        };
        ensure!(facts(&self.before) == facts(&after), CHANGED);
        Ok(())
    }
}
