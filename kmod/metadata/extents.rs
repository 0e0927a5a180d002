// SPDX-License-Identifier: GPL-2.0

//! The extents of a regular file: all of them, or what it takes to find them again.
//!
//! A few hundred bytes of image may stand for millions of extents. So only those of a file that
//! has few are kept in memory. Of a longer file it is kept where every so many of them end, and
//! the rest is read from the metadata again by whoever reads there.

use super::{
    run::{ChunkExtent, LentRun, Run},
    Access, Reader,
};
use crate::{
    chunks::{OpenChunk, Source},
    report::{is_passing, Failure, Purpose},
};
use kernel::{prelude::*, rbtree::RBTree};
use puzzlefs_format::{self as format, ChunkRef, Digest, Extent, Kind};
use vfs::SeekTo;

/// ExtentMap that are looked at before the task looks whether it was killed.
const BATCH: u32 = 1024;

/// Files of more extents are long: of these not all are kept in memory, which would take 48 bytes
/// for each. In chunks of 64 KiB that is 256 MiB.
const MAX_RUN_EXTENTS: usize = 4096;

/// The same where the metadata is in blocks that are loose: these cannot be opened below a page
/// fault, so all extents are kept, and longer files refused. No manifest that fits registries lists
/// the chunks of one.
const MAX_LOOSE_EXTENTS: usize = 1 << 16;

/// Of a long file it is kept where each of so many extents ends: 1 MiB for the longest.
const STEP: u32 = 128;

/// ExtentMap of one run of a long file, at most.
const MAX_RUN: usize = 256;

/// Loose chunks that a long file keeps open, at most. No manifest that fits registries lists
/// more.
const MAX_LOOSE: usize = 1 << 15;

/// The extents of a regular file.
pub(crate) enum ExtentMap {
    /// All of them.
    All(Run),
    /// Of a long file: how to find them.
    Long(Long),
}

impl ExtentMap {
    /// The extents of inode `ino`, a file of `size` bytes. Makes its chunks ready to be read.
    /// Of a long file it calls `look` with each of them, and where that ends: they are not all
    /// in memory later.
    ///
    /// # Errors
    ///
    /// `EIO` when a chunk is missing, `EUCLEAN` when the extents are not sound, `EFBIG` for more
    /// than can be read, `EINTR` when the task was killed, `ENOMEM`, and those of `look`.
    pub(crate) fn read(
        access: Access<'_>,
        ino: u64,
        size: u64,
        mut look: impl FnMut(u64, Option<&ChunkExtent>) -> Result,
    ) -> Result<Self, Failure> {
        let (mut run, mut long) = (Run::default(), None::<Long>);
        let (mut end, mut missing) = (0, None);
        walk(access, Reader::new, ino, 0, &mut |extent, left| {
            if end == 0 {
                let count = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
                run.reserve(count.min(MAX_RUN_EXTENTS))?;
            }
            end = extent.end(end)?;
            // What is not sound is said first, whatever chunks are there.
            if missing.is_some() {
                return Ok(true);
            }
            let extent = match acquire(access, ino, &extent) {
                Err(error) if !is_passing(error) => {
                    missing = Some(error);
                    return Ok(true);
                }
                extent => extent?,
            };
            if run.len() >= MAX_RUN_EXTENTS && long.is_none() {
                if !access.is_loose() {
                    let mut all = Long::default();
                    for (end, extent) in core::mem::take(&mut run).into_extents() {
                        look(end, extent.as_ref())?;
                        all.push(end, extent.map(|extent| extent.source))?;
                    }
                    long = Some(all);
                } else if run.len() >= MAX_LOOSE_EXTENTS {
                    return Err(EFBIG.into());
                }
            }
            match &mut long {
                Some(long) => {
                    look(end, extent.as_ref())?;
                    long.push(end, extent.map(|extent| extent.source))?;
                }
                None => run.push(end, extent)?,
            }
            Ok(true)
        })?;
        if end != size {
            return Err(format::Error::SizeMismatch.into());
        }
        if let Some(error) = missing {
            return Err(error.into());
        }
        Ok(match long {
            Some(long) => Self::Long(long),
            None => Self::All(run),
        })
    }

    /// All of them, if they are in memory.
    pub(crate) fn all(&self) -> Option<&Run> {
        match self {
            Self::All(run) => Some(run),
            Self::Long(_) => None,
        }
    }

    /// Where the last one ends, which is the file's size.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::All(run) => run.end(),
            Self::Long(long) => long.end,
        }
    }

    /// Those from `position` on, up to `end` or some more. They are those of inode `ino`.
    ///
    /// # Errors
    ///
    /// `EIO` when a chunk is not there, `EINTR` when the task was killed, `ENOMEM`, and what is not
    /// sound.
    pub(crate) fn run(
        &self,
        access: Access<'_>,
        ino: u64,
        position: u64,
        end: u64,
    ) -> Result<LentRun<'_>, Failure> {
        Ok(match self {
            Self::All(run) => LentRun::Kept(run),
            Self::Long(long) => LentRun::Read(long.run(access, ino, position, end)?),
        })
    }

    /// The first position from `position` on, inside the file, that is `what`. The end of the file
    /// is a hole.
    ///
    /// # Errors
    ///
    /// `ENXIO` when only holes follow, and as of [`ExtentMap::run`].
    pub(crate) fn seek(
        &self,
        access: Access<'_>,
        ino: u64,
        position: u64,
        what: SeekTo,
    ) -> Result<u64, Failure> {
        let mut start = position;
        while start < self.end() {
            if vfs::killed() {
                return Err(EINTR.into());
            }
            let run = self.run(access, ino, start, u64::MAX)?;
            let at = run.locate(start).ok_or(ENXIO)?;
            for (end, extent) in run.extents().skip(at.index) {
                let found = match extent {
                    Some(_) => SeekTo::Data,
                    None => SeekTo::Hole,
                };
                if found == what {
                    return Ok(start);
                }
                start = end;
            }
        }
        match what {
            SeekTo::Hole if start > position => Ok(start),
            _ => Err(ENXIO.into()),
        }
    }
}

/// Where the extents of a long file are.
#[derive(Default)]
pub(crate) struct Long {
    /// Where each [`STEP`]th extent ends.
    ends: KVVec<u64>,
    count: u32,
    /// Where the last one ends.
    end: u64,
    /// Its chunks that are loose, each once: below a page fault none can be looked up.
    loose: RBTree<Digest, OpenChunk>,
    loose_count: usize,
}

impl Long {
    /// Adds an extent that ends at `end`; `source` is its chunk's.
    ///
    /// # Errors
    ///
    /// `EFBIG` when it has too many loose chunks, `ENOMEM`.
    fn push(&mut self, end: u64, source: Option<Source>) -> Result {
        self.count = self.count.saturating_add(1);
        self.end = end;
        if self.count.checked_rem(STEP) == Some(0) {
            self.ends.push(end, GFP_KERNEL_ACCOUNT)?;
        }
        let Some(Source::Loose(chunk)) = source else {
            return Ok(());
        };
        if self.loose.get(chunk.key()).is_none() {
            if self.loose_count >= MAX_LOOSE {
                return Err(EFBIG);
            }
            self.loose_count = self.loose_count.saturating_add(1);
            self.loose
                .try_create_and_insert(*chunk.key(), chunk, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// The extents from `position` on, up to `end` or some more.
    ///
    /// # Errors
    ///
    /// `EIO` when a chunk is not there, `EINTR` when the task was killed, `ENOMEM`, and what is not
    /// sound.
    fn run(&self, access: Access<'_>, ino: u64, position: u64, end: u64) -> Result<Run, Failure> {
        let step = self.ends.partition_point(|end| *end <= position);
        let mut start = match step.checked_sub(1) {
            Some(last) => self.ends.get(last).copied().ok_or(EUCLEAN)?,
            None => 0,
        };
        let first = u32::try_from(step).map_err(|_| EFBIG)?;
        let mut run: Option<Run> = None;
        walk(
            access,
            Reader::for_data,
            ino,
            first.saturating_mul(STEP),
            &mut |extent, _| {
                let (begin, stop) = (start, extent.end(start)?);
                start = stop;
                // Those in front of it are only counted.
                if stop <= position {
                    return Ok(true);
                }
                let run = match &mut run {
                    Some(run) => run,
                    None => run.insert(Run::at(begin)?),
                };
                let source = |chunk: &ChunkRef| {
                    let source = self.source(access, ino, &chunk.digest)?;
                    Ok::<_, Error>(ChunkExtent::new(chunk, source))
                };
                run.push(stop, extent.chunk.as_ref().map(source).transpose()?)?;
                Ok(stop < end && run.len() < MAX_RUN)
            },
        )?;
        match run {
            None if position < self.end => Err(EUCLEAN.into()),
            run => Ok(run.unwrap_or_default()),
        }
    }

    fn source(&self, access: Access<'_>, ino: u64, digest: &Digest) -> Result<Source> {
        match self.loose.get(digest) {
            Some(chunk) => Ok(Source::Loose(chunk.clone())),
            None => {
                let chunks = access.content.chunks();
                chunks.acquire_packed(digest, Purpose::Inode(ino))
            }
        }
    }
}

/// The size of the file with number `ino`, added up from its extents.
///
/// # Errors
///
/// As of [`Reader::inode`]; `EINTR` when the task was killed.
pub(crate) fn added_up(access: Access<'_>, ino: u64) -> Result<u64, Failure> {
    let mut end = 0;
    walk(access, Reader::new, ino, 0, &mut |extent, _| {
        end = extent.end(end)?;
        Ok(true)
    })?;
    Ok(end)
}

/// Calls `look` with the extents of inode `ino` from number `first` on, and with how many follow
/// it, until it says false. Keeps only the metadata of some of them in memory, in what `reader`
/// makes: a file may have millions.
///
/// # Errors
///
/// Those of [`Reader::inode`], `EINTR` when the task was killed, and those of `look`.
// Not inlined: what it calls reads, and most callers never come here. These should not have its
// frame below them on the stack.
#[inline(never)]
fn walk<'a>(
    access: Access<'a>,
    reader: fn(Access<'a>) -> Reader<'a>,
    ino: u64,
    first: u32,
    look: &mut dyn FnMut(Extent, u32) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut next = first;
    loop {
        if vfs::killed() {
            return Err(EINTR.into());
        }
        let reader = reader(access);
        let Kind::File(extents) = reader.inode(ino)?.kind()? else {
            return Err(format::Error::BadMode.into());
        };
        loop {
            let Some(left) = extents.len().checked_sub(next).filter(|left| *left > 0) else {
                return Ok(());
            };
            if !look(extents.get(next)?, left.saturating_sub(1))? {
                return Ok(());
            }
            next = next.saturating_add(1);
            if next.checked_rem(BATCH) == Some(0) || reader.is_full() {
                break;
            }
        }
    }
}

/// Makes an extent's chunk ready to be read; none for a hole.
#[inline(never)]
fn acquire(access: Access<'_>, ino: u64, extent: &Extent) -> Result<Option<ChunkExtent>> {
    let Some(chunk) = &extent.chunk else {
        return Ok(None);
    };
    let chunks = access.content.chunks();
    let source = chunks.acquire(&chunk.digest, Purpose::Inode(ino))?;
    Ok(Some(ChunkExtent::new(chunk, source)))
}
