// SPDX-License-Identifier: GPL-2.0

//! One chunk, or a part of it, on its way into folios.

use super::file::File;
use crate::{
    content::{Chunk, Loaded},
    metadata::{ChunkExtent, Run},
    sharing::ChunkCache,
};
use kernel::prelude::*;
use vfs::ReadWindow;

/// What comes next in a file, or in a run of its extents.
pub(super) enum Next<'a> {
    /// A part of a chunk.
    Piece(Piece<'a>),
    /// So many zeroes: a hole, or what is behind the end, where the last folio is zero.
    Zeroes(u64),
}

/// What comes at `position`, in up to `len` bytes of those that `run` knows of.
///
/// # Errors
///
/// `EUCLEAN` when a chunk would be longer than memory.
pub(super) fn next(run: &Run, position: u64, len: u64) -> Result<Next<'_>> {
    let Some(at) = run.locate(position) else {
        return Ok(Next::Zeroes(len));
    };
    let len = at.left.min(len);
    let Some(extent) = run.get(at.index)? else {
        return Ok(Next::Zeroes(len));
    };
    let start = extent.offset.checked_add(at.within).ok_or(EUCLEAN)?;
    Ok(Next::Piece(Piece {
        extent,
        start: usize::try_from(start).map_err(|_| EUCLEAN)?,
        len: usize::try_from(len).map_err(|_| EUCLEAN)?,
        extent_len: at.within.saturating_add(at.left),
    }))
}

/// The pieces that come next in `len` bytes from `position` on, up to a hole.
pub(super) fn pieces(run: &Run, position: u64, len: u64) -> impl Iterator<Item = Piece<'_>> {
    let (mut position, mut left) = (position, len);
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let Next::Piece(piece) = next(run, position, left).ok()? else {
            return None;
        };
        position = position.checked_add(piece.len as u64)?;
        left = left.checked_sub(piece.len as u64)?;
        Some(piece)
    })
}

/// The next bytes to read: a part of a chunk.
pub(super) struct Piece<'a> {
    /// The extent that they belong to.
    pub(super) extent: &'a ChunkExtent,
    /// Where they begin in the chunk's content.
    pub(super) start: usize,
    /// How many they are.
    pub(super) len: usize,
    /// How many the extent has.
    extent_len: u64,
}

impl Piece<'_> {
    /// Whether a chunk of `size` bytes of content belongs to the file alone.
    pub(super) fn is_of_own(&self, size: usize) -> bool {
        self.extent.offset == 0 && self.extent_len == size as u64
    }

    /// Where they end in the chunk's content.
    pub(super) fn end(&self) -> usize {
        self.start.saturating_add(self.len)
    }

    /// Checks that `chunk`, of `size` bytes of content, has all of the extent: not only what is
    /// asked for, so that each way to read the file fails or none.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when it has not.
    pub(super) fn check(&self, chunk: &Chunk<'_>, size: usize) -> Result {
        let end = self.extent.offset.saturating_add(self.extent_len);
        if end > size as u64 {
            let stored = chunk.stored();
            stored.report(format_args!("has {size} bytes, less than a file uses"));
            return Err(EUCLEAN);
        }
        Ok(())
    }

    fn copy(&self, cache: Option<&ChunkCache>, window: &mut ReadWindow<'_>) -> Result<bool> {
        match cache {
            Some(cache) => cache.copy(self.start, self.len, window),
            None => Ok(false),
        }
    }

    /// Reads them, or the first of them.
    // Not inlined: its frame is not to be on the stack of a batch.
    #[inline(never)]
    pub(super) fn read(&self, file: &File<'_>, window: &mut ReadWindow<'_>) -> Result {
        let chunk = self.extent.chunk(file.content(), file.purpose())?;
        let hits = &file.content().chunks().counters().chunk_hits;
        let mut cache = file.sharing.cache(chunk.number(), chunk.is_compressed());
        if self.copy(cache, window)? {
            hits.add(1);
            return Ok(());
        }
        let locked = chunk.lock()?;
        if self.extent.offset > 0 {
            cache = file.sharing.make_cache(&locked, file.caches);
        }
        // Whoever was reading it may have put it there.
        if self.copy(cache, window)? {
            hits.add(1);
            return Ok(());
        }
        locked.read(|loaded: &mut Loaded<'_>| {
            let size = loaded.size();
            self.check(&chunk, size)?;
            if self.len == size {
                return window.fill_with(size, |output| loaded.write_to(output));
            }
            // A chunk that belongs to this file alone is not put there.
            if !self.is_of_own(size) {
                let cache = cache.or_else(|| file.sharing.make_cache(&locked, file.caches));
                let filled = cache.map_or(Ok(false), |cache| cache.fill(loaded))?;
                if filled && self.copy(cache, window)? {
                    return Ok(());
                }
            }
            let content = loaded.content(self.end())?.get(self.start..);
            window.write(content.ok_or(EUCLEAN)?)
        })
    }
}
