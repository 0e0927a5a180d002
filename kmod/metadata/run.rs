// SPDX-License-Identifier: GPL-2.0

//! ExtentMap that follow one another in a file, ready to be read.

use crate::{
    chunks::Source,
    content::{Chunk, Content},
    report::Purpose,
};
use core::ops::Deref;
use kernel::prelude::*;
use puzzlefs_format::{locate, ChunkRef, Located};

/// An extent of a file: a part of a chunk.
pub(crate) struct ChunkExtent {
    /// The chunk.
    pub(crate) source: Source,
    /// Where in the decompressed chunk the extent begins, in bytes.
    pub(crate) offset: u64,
    /// Whether the chunk is stored compressed.
    pub(crate) compressed: bool,
}

impl ChunkExtent {
    /// The part of `source` that `chunk` says.
    pub(super) fn new(chunk: &ChunkRef, source: Source) -> Self {
        Self {
            source,
            offset: chunk.offset,
            compressed: chunk.compressed,
        }
    }

    /// The chunk, to be read from `content`.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is one of another image.
    pub(crate) fn chunk<'a>(&'a self, content: &'a Content, purpose: Purpose) -> Result<Chunk<'a>> {
        content.chunk(&self.source, self.compressed, purpose)
    }
}

/// ExtentMap that follow one another in a file.
#[derive(Default)]
pub(crate) struct Run {
    /// Where each ends. What comes before a run that is not the first is one more, and a hole.
    ends: KVVec<u64>,
    /// The extents; none for a hole.
    extents: KVVec<Option<ChunkExtent>>,
}

impl Run {
    /// One that begins at `start`.
    pub(super) fn at(start: u64) -> Result<Self> {
        let mut this = Self::default();
        if start > 0 {
            this.push(start, None)?;
        }
        Ok(this)
    }

    /// Makes room for `count` extents.
    pub(super) fn reserve(&mut self, count: usize) -> Result {
        self.ends.reserve(count, GFP_KERNEL_ACCOUNT)?;
        Ok(self.extents.reserve(count, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds an extent that ends at `end`.
    pub(super) fn push(&mut self, end: u64, extent: Option<ChunkExtent>) -> Result {
        self.ends.push(end, GFP_KERNEL_ACCOUNT)?;
        Ok(self.extents.push(extent, GFP_KERNEL_ACCOUNT)?)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.extents.len()
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
    pub(crate) fn get(&self, index: usize) -> Result<Option<&ChunkExtent>> {
        Ok(self.extents.get(index).ok_or(EUCLEAN)?.as_ref())
    }

    /// The same as [`Run::extents`], taken out.
    pub(crate) fn into_extents(self) -> impl Iterator<Item = (u64, Option<ChunkExtent>)> {
        self.ends.into_iter().zip(self.extents)
    }

    /// The extents: where each one ends, and its part of a chunk unless it is a hole.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (u64, Option<&ChunkExtent>)> {
        let ends = self.ends.iter().copied();
        ends.zip(self.extents.iter().map(Option::as_ref))
    }
}

/// A run that the file keeps, or that was read for the caller.
pub(crate) enum LentRun<'a> {
    Kept(&'a Run),
    Read(Run),
}

impl Deref for LentRun<'_> {
    type Target = Run;

    fn deref(&self) -> &Run {
        match self {
            Self::Kept(run) => run,
            Self::Read(run) => run,
        }
    }
}
