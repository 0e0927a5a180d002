// SPDX-License-Identifier: GPL-2.0

//! The data of files, on its way into the page cache.
//!
//! A chunk is verified as a whole: that is the unit of trust. What becomes of it then
//! depends on whose it is:
//!
//! - A chunk that one file has to itself is decompressed straight into the folios of that
//!   file, if all of it was asked for; readahead is expanded so that it mostly is.
//! - A chunk that several small files share goes into a page cache of the mount's own,
//!   and the files' folios are copied from there, until all of it was copied.

use crate::{
    file::{OpenFile, Part},
    image::Image,
    slot::{Key, Loaded},
    store::Stored,
};
use kernel::prelude::*;
use puzzlefs_format::locate;
use vfs::{PrivateCache, ReadWindow};

/// How far beyond what was asked for a window may grow, in bytes, so that a chunk that
/// has to be decompressed anyway is used whole.
const EXPAND_BYTES: u64 = 512 << 10;

/// Fills `window` with the data of `file`.
///
/// # Errors
///
/// `EIO` for a chunk that is damaged, `EUCLEAN` for one that is shorter than the
/// metadata says, `EINTR` when the reader was killed, `ENOMEM`.
pub(crate) fn read(image: &Image, file: &OpenFile, window: &mut ReadWindow<'_>) -> Result {
    expand(file, window);
    while window.remaining() > 0 {
        if vfs::killed() {
            return Err(EINTR);
        }
        let Some(at) = locate(file.ends(), window.position()) else {
            // Behind the end of the file the last folio is zero.
            return window.zero(window.remaining());
        };
        let len = at.left.min(window.remaining());
        let Some(part) = file.part(at.index)? else {
            window.zero(len)?;
            continue;
        };
        let start = part.offset.checked_add(at.within).ok_or(EUCLEAN)?;
        let piece = Piece {
            start: usize::try_from(start).map_err(|_| EUCLEAN)?,
            len: usize::try_from(len).map_err(|_| EUCLEAN)?,
            extent: (part.offset, at.within.saturating_add(at.left)),
        };
        piece.read(image, part, window)?;
    }
    Ok(())
}

/// The next bytes to read: a part of a chunk.
struct Piece {
    /// Where they begin in its content.
    start: usize,
    len: usize,
    /// The extent they belong to: where it begins in the content, and its length.
    extent: (u64, u64),
}

impl Piece {
    fn read(&self, image: &Image, part: &Part, window: &mut ReadWindow<'_>) -> Result {
        let chunk = image.store().stored(&part.source)?;
        let place = chunk.cache_position(part.compressed);
        if self.copy(image.cache(), &chunk, place, window)? {
            return Ok(());
        }
        let key = Key {
            digest: *chunk.digest(),
            compressed: part.compressed,
        };
        image.pool().with_slot(&key, |slot| {
            let mut loaded = slot.load(&key, &chunk)?;
            let size = loaded.size();
            if self.end() > size {
                chunk.report(format_args!("has {size} bytes, less than a file uses"));
                return Err(EUCLEAN);
            }
            if self.len == size {
                return window.fill_with(size, |memory| loaded.write_to(memory));
            }
            let is_shared = self.extent != (0, size as u64);
            if is_shared && fill_cache(image.cache(), place, &mut loaded)? {
                chunk.state().set_cached(size);
                if self.copy(image.cache(), &chunk, place, window)? {
                    return Ok(());
                }
            }
            let content = loaded.content(self.end())?.get(self.start..);
            window.write(content.ok_or(EUCLEAN)?)
        })
    }

    fn end(&self) -> usize {
        self.start.saturating_add(self.len)
    }

    /// Copies what is in the cache, the rest is for the next time. False if there is none.
    fn copy(
        &self,
        cache: &PrivateCache,
        chunk: &Stored<'_>,
        place: u64,
        window: &mut ReadWindow<'_>,
    ) -> Result<bool> {
        let cached = chunk.state().cached();
        if self.end() > cached {
            return Ok(false);
        }
        let position = place.saturating_add(self.start as u64);
        let copied = cache.read(position, self.len, |bytes| window.write(bytes))?;
        if copied > 0 && chunk.state().is_used_up(copied) {
            cache.forget(place, cached);
        }
        Ok(copied > 0)
    }
}

/// Puts the content of a chunk into the cache. False if there is no memory for it.
fn fill_cache(cache: &PrivateCache, place: u64, chunk: &mut Loaded<'_>) -> Result<bool> {
    match cache.fill(place, chunk.size(), |memory| chunk.write_to(memory)) {
        Ok(()) => Ok(true),
        Err(ENOMEM | EFBIG) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Grows the window, at its begin and its end, to what has to be decompressed anyway, or
/// almost: the extent that it begins in from that one's begin on, since what lies before
/// comes first; the one that it ends in up to that one's end, unless most of it is left
/// and the file is not read from its begin. So a small read at random decompresses half a chunk on average, and does not fill the
/// page cache with more than that.
fn expand(file: &OpenFile, window: &mut ReadWindow<'_>) {
    let start = window.position();
    let end = start.saturating_add(window.remaining());
    let begin = locate(file.ends(), start)
        .filter(|at| at.within <= EXPAND_BYTES)
        .map_or(start, |at| start.saturating_sub(at.within));
    let last = end.checked_sub(1);
    let Some(last) = last.and_then(|last| locate(file.ends(), last)) else {
        return window.expand(begin, end);
    };
    // `last` is the last byte asked for.
    let left = last.left.saturating_sub(1);
    let asked = last.within.saturating_add(1).min(end.saturating_sub(start));
    if start == 0 || left <= asked {
        window.expand(begin, end.saturating_add(left.min(EXPAND_BYTES)));
    } else {
        window.expand(begin, end);
    }
}
