// SPDX-License-Identifier: GPL-2.0

//! Small files, which read(2) takes from the page caches of their chunks.

use super::{
    file::File,
    piece::{self, Next, Piece},
};
use crate::{
    chunks::Source,
    content::Chunk,
    metadata::{ChunkExtent, ExtentMap},
    sharing::ChunkCache,
};
use kernel::prelude::*;

/// Files of less share chunks. Larger ones mostly have theirs to themselves, which cannot be
/// known before the chunk is read: an inode does not tell how long one is.
const SMALL_BYTES: u64 = 16 << 10;

/// How often a chunk is put into its page cache for one reader, before whom it may be reclaimed.
const MAX_FILLS: usize = 8;

/// The only extent of a small file, if that is in a pack: then the file is read from the page cache
/// of its chunk.
pub(crate) fn small(extents: &ExtentMap) -> Option<&ChunkExtent> {
    let mut extents = extents.all()?.extents();
    let (Some((end, Some(extent))), None) = (extents.next(), extents.next()) else {
        return None;
    };
    let is_packed = matches!(extent.source, Source::Packed(_));
    let is_of_several = extent.offset > 0 || end < SMALL_BYTES;
    (is_packed && is_of_several).then_some(extent)
}

impl File<'_> {
    /// Calls `copy` with `len` bytes of the file from `position` on, if it is a small one and they
    /// are in the page cache of its chunk, or can be put there. False if not all of them could.
    ///
    /// # Errors
    ///
    /// As of [`File::read`], and those of `copy`.
    // Not inlined: most files are read by another way, and should not have its frame below them.
    #[inline(never)]
    pub(crate) fn copy_shared(
        &self,
        position: u64,
        len: usize,
        mut copy: impl FnMut(&[u8]) -> Result,
    ) -> Result<bool> {
        let Some(extent) = small(self.extents) else {
            return Ok(false);
        };
        // Mostly it is there, and nothing else of the chunk is of interest.
        let start = extent.offset.saturating_add(position);
        let start = usize::try_from(start).map_err(|_| EUCLEAN)?;
        let number = self.content().chunks().number(&extent.source);
        let read = match self.sharing.cache(number, extent.compressed) {
            Some(cache) => cache.read(start, len, &mut copy)?,
            None => 0,
        };
        if read == len {
            return Ok(true);
        }
        let left = (len as u64).saturating_sub(read as u64);
        let position = position.saturating_add(read as u64);
        let run = self.run(position, position.saturating_add(left))?;
        let Next::Piece(piece) = piece::next(&run, position, left)? else {
            return Ok(false);
        };
        let chunk = piece.extent.chunk(self.content(), self.purpose())?;
        let locked = chunk.lock()?;
        let make = || self.sharing.make_cache(&locked, self.caches);
        let cache = vfs::without_fs_reclaim(make);
        drop(locked);
        let Some(cache) = cache else {
            return Ok(false);
        };
        let mut start = piece.start;
        for _ in 0..MAX_FILLS {
            let read = cache.read(start, piece.end().saturating_sub(start), &mut copy)?;
            start = start.saturating_add(read);
            if start == piece.end() {
                return Ok(piece.len as u64 == left);
            }
            if vfs::killed() {
                return Err(EINTR);
            }
            if !self.fill(&piece, start, &chunk, cache)? {
                break;
            }
        }
        Ok(false)
    }

    /// Puts `chunk`, of which `start` is missing, into its page cache. False if that cannot be.
    fn fill(
        &self,
        piece: &Piece<'_>,
        start: usize,
        chunk: &Chunk<'_>,
        cache: &ChunkCache,
    ) -> Result<bool> {
        let locked = chunk.lock()?;
        // Whoever was reading it may have put it there.
        if cache.has(start) {
            return Ok(true);
        }
        vfs::without_fs_reclaim(|| {
            locked.read(|loaded| {
                piece.check(chunk, loaded.size())?;
                let filled = cache.fill(loaded)?;
                cache.set_read();
                if filled {
                    let counters = self.content().chunks().counters();
                    counters.bytes_filled.add(loaded.size() as u64);
                }
                Ok(filled)
            })
        })
    }
}
