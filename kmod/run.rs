// SPDX-License-Identifier: GPL-2.0

//! The extents of a regular file, ready to be read: all of them, or a run of some.
//!
//! A few hundred bytes of image may stand for millions of extents. So only those of a file that
//! has few are kept in memory. Of a longer file it is kept where every so many of them end, and
//! the rest is read from the metadata again by whoever reads there.

use crate::{
    error::Failure,
    faults::Purpose,
    image::Image,
    loose::OpenChunk,
    metadata::Reader,
    store::{Source, Store},
};
use core::ops::Deref;
use kernel::{prelude::*, rbtree::RBTree};
use puzzlefs_format::{self as format, locate, ChunkRef, Digest, Extent, Kind, Located};
use vfs::{Inode, SuperBlock};

/// Extents that are looked at before the task looks whether it was killed.
const BATCH: u32 = 1024;

/// Of a long file it is kept where each of so many extents ends: 1 MiB for the longest.
const STEP: u32 = 128;

/// Extents of one run of a long file, at most.
const MAX_RUN: usize = 256;

/// Loose chunks that a long file keeps open, at most. No manifest that fits registries lists
/// more.
const MAX_LOOSE: usize = 1 << 15;

/// An extent of a file: a part of a chunk.
pub(crate) struct Part {
    /// The chunk.
    pub(crate) source: Source,
    /// Where in the decompressed chunk the extent begins, in bytes.
    pub(crate) offset: u64,
    /// Whether the chunk is stored compressed.
    pub(crate) compressed: bool,
}

impl Part {
    fn new(chunk: &ChunkRef, source: Source) -> Self {
        Self {
            source,
            offset: chunk.offset,
            compressed: chunk.compressed,
        }
    }
}

/// Extents that follow one another in a file.
#[derive(Default)]
pub(crate) struct Run {
    /// Where each ends. What comes before a run that is not the first is one more, and a hole.
    ends: KVVec<u64>,
    /// The extents; none for a hole.
    parts: KVVec<Option<Part>>,
}

impl Run {
    /// One that begins at `start`.
    fn at(start: u64) -> Result<Self> {
        let mut this = Self::default();
        if start > 0 {
            this.push(start, None)?;
        }
        Ok(this)
    }

    /// Makes room for `count` extents.
    pub(crate) fn reserve(&mut self, count: usize) -> Result {
        self.ends.reserve(count, GFP_KERNEL_ACCOUNT)?;
        Ok(self.parts.reserve(count, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds an extent that ends at `end`.
    pub(crate) fn push(&mut self, end: u64, part: Option<Part>) -> Result {
        self.ends.push(end, GFP_KERNEL_ACCOUNT)?;
        Ok(self.parts.push(part, GFP_KERNEL_ACCOUNT)?)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Where the last one ends.
    pub(crate) fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Where `position` is.
    pub(crate) fn locate(&self, position: u64) -> Option<Located> {
        locate(&self.ends, position)
    }

    /// Extent `index`; none if it is a hole.
    pub(crate) fn part(&self, index: usize) -> Result<Option<&Part>> {
        Ok(self.parts.get(index).ok_or(EUCLEAN)?.as_ref())
    }

    /// The same as [`Run::extents`], taken out.
    pub(crate) fn into_extents(self) -> impl Iterator<Item = (u64, Option<Part>)> {
        self.ends.into_iter().zip(self.parts)
    }

    /// The extents: where each one ends, and its part of a chunk unless it is a hole.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (u64, Option<&Part>)> {
        let ends = self.ends.iter().copied();
        ends.zip(self.parts.iter().map(Option::as_ref))
    }
}

/// A run that is lent, or was read for who asks.
pub(crate) enum Lent<'a> {
    Kept(&'a Run),
    Read(Run),
}

impl Deref for Lent<'_> {
    type Target = Run;

    fn deref(&self) -> &Run {
        match self {
            Self::Kept(run) => run,
            Self::Read(run) => run,
        }
    }
}

/// Where the extents of a long file are.
#[derive(Default)]
pub(crate) struct Long {
    /// Where each [`STEP`]th extent ends.
    ends: KVVec<u64>,
    count: u32,
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
    pub(crate) fn push(&mut self, end: u64, source: Option<Source>) -> Result {
        self.count = self.count.saturating_add(1);
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
    pub(crate) fn run(
        &self,
        inode: &Inode<Image>,
        position: u64,
        end: u64,
    ) -> Result<Run, Failure> {
        let step = self.ends.partition_point(|end| *end <= position);
        let mut start = match step.checked_sub(1) {
            Some(last) => self.ends.get(last).copied().ok_or(EUCLEAN)?,
            None => 0,
        };
        let first = u32::try_from(step).map_err(|_| EFBIG)?;
        let store = inode.super_block().data().store();
        let mut run: Option<Run> = None;
        walk(
            Reader::for_data,
            inode,
            first.saturating_mul(STEP),
            |extent, _| {
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
                let part = match &extent.chunk {
                    Some(chunk) => {
                        Some(Part::new(chunk, self.source(store, inode, &chunk.digest)?))
                    }
                    None => None,
                };
                run.push(stop, part)?;
                Ok(stop < end && run.len() < MAX_RUN)
            },
        )?;
        match run {
            None if position < inode.size() => Err(EUCLEAN.into()),
            run => Ok(run.unwrap_or_default()),
        }
    }

    fn source(&self, store: &Store, inode: &Inode<Image>, digest: &Digest) -> Result<Source> {
        match self.loose.get(digest) {
            Some(chunk) => Ok(Source::Loose(chunk.clone())),
            None => store.acquire_packed(digest, Purpose::Inode(inode.ino())),
        }
    }
}

/// Calls `look` with the extents of `inode` from number `first` on, and with how many follow it,
/// until it says false. Keeps only the metadata of some of them in memory, in what `reader`
/// makes: a file may have millions.
///
/// # Errors
///
/// Those of [`Reader::inode`], `EINTR` when the task was killed, and those of `look`.
pub(crate) fn walk<'a>(
    reader: impl Fn(&'a SuperBlock<Image>) -> Reader<'a>,
    inode: &'a Inode<Image>,
    first: u32,
    mut look: impl FnMut(Extent, u32) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut next = first;
    loop {
        if vfs::killed() {
            return Err(EINTR.into());
        }
        let reader = reader(inode.super_block());
        let Kind::File(extents) = reader.inode(inode.ino())?.kind()? else {
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

/// Makes an extent's chunk ready to be read.
///
/// # Errors
///
/// Those of [`Store::acquire`].
pub(crate) fn acquire(inode: &Inode<Image>, extent: &Extent) -> Result<Option<Part>> {
    let store = inode.super_block().data().store();
    let Some(chunk) = &extent.chunk else {
        return Ok(None);
    };
    let source = store.acquire(&chunk.digest, Purpose::Inode(inode.ino()))?;
    Ok(Some(Part::new(chunk, source)))
}
