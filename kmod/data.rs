// SPDX-License-Identifier: GPL-2.0

//! The data of files, on its way into the page cache.

use crate::{file::OpenFile, image::Image};
use kernel::prelude::*;
use puzzlefs_format::locate;
use vfs::ReadWindow;

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
        let chunk = image.store().stored(&part.source)?;
        image.pool().with_chunk(&chunk, part.compressed, |chunk| {
            let start = part.offset.checked_add(at.within).ok_or(EUCLEAN)?;
            let start = usize::try_from(start).map_err(|_| EUCLEAN)?;
            let len = usize::try_from(len).map_err(|_| EUCLEAN)?;
            let bytes = chunk.get(start..).and_then(|rest| rest.get(..len));
            window.write(bytes.ok_or(EUCLEAN)?)
        })?;
    }
    Ok(())
}

/// Grows the window to the extents that it begins and ends in.
fn expand(file: &OpenFile, window: &mut ReadWindow<'_>) {
    let start = window.position();
    let end = start.saturating_add(window.remaining());
    if let Some(at) = locate(file.ends(), start) {
        if at.within <= EXPAND_BYTES {
            window.expand(start.saturating_sub(at.within), end);
        }
    }
    if let Some(at) = end
        .checked_sub(1)
        .and_then(|last| locate(file.ends(), last))
    {
        if at.left <= EXPAND_BYTES {
            window.expand(start, end.saturating_add(at.left).saturating_sub(1));
        }
    }
}
