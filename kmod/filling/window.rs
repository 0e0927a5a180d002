// SPDX-License-Identifier: GPL-2.0

//! Fills the windows that the page cache asks for.

use super::{
    batch,
    file::File,
    piece::{self, Next},
};
use crate::metadata::Run;
use kernel::prelude::*;
use vfs::ReadWindow;

/// How far beyond what was asked for a window may grow, in bytes, so that a chunk that
/// has to be decompressed anyway is used whole.
const EXPAND_BYTES: u64 = 512 << 10;

impl File<'_> {
    /// Fills `window` with the file's data.
    ///
    /// # Errors
    ///
    /// `EIO` for a chunk that is damaged, `EUCLEAN` for one that is shorter than the
    /// metadata says, `EINTR` when the reader was killed, `ENOMEM`.
    pub(crate) fn read(&self, window: &mut ReadWindow<'_>) -> Result {
        let run = |window: &ReadWindow<'_>| {
            let end = window.position().saturating_add(window.remaining());
            self.run(window.position(), end.saturating_add(EXPAND_BYTES))
        };
        let mut extents = run(window)?;
        expand(&extents, window);
        while window.remaining() > 0 {
            if vfs::killed() {
                return Err(EINTR);
            }
            let start = window.position();
            // Behind the end of the file is the rest of its last folio.
            if start >= extents.end() && start < self.extents.end() {
                extents = run(window)?;
            }
            if !batch::read(self, &extents, window)? {
                match piece::next(&extents, start, window.remaining())? {
                    Next::Piece(piece) => piece.read(self, window)?,
                    Next::Zeroes(len) => window.zero(len)?,
                }
            }
            let filled = window.position().saturating_sub(start);
            let counters = self.content().chunks().counters();
            counters.bytes_filled.add(filled);
        }
        Ok(())
    }
}

/// Grows the window, at its begin and its end, to what has to be decompressed anyway, or
/// almost: the extent that it begins in from that one's begin on, since what lies before
/// comes first; the one that it ends in up to that one's end, unless most of it is left and
/// the file is not read from its begin. So a small read at random decompresses half a chunk
/// on average, and does not fill the page cache with more than that.
fn expand(run: &Run, window: &mut ReadWindow<'_>) {
    let start = window.position();
    let end = start.saturating_add(window.remaining());
    // Holes cost nothing, now or later.
    let locate_data = |position| {
        let at = run.locate(position)?;
        run.get(at.index).ok().flatten().and(Some(at))
    };
    let mut begin = start;
    if let Some(at) = locate_data(start).filter(|at| at.within <= EXPAND_BYTES) {
        begin = start.saturating_sub(at.within);
    }
    let mut new_end = end;
    // `last` is the last byte asked for.
    if let Some(last) = end.checked_sub(1).and_then(locate_data) {
        let left = last.left.saturating_sub(1);
        let asked = last.within.saturating_add(1).min(end.saturating_sub(start));
        if left <= EXPAND_BYTES && (start == 0 || left <= asked) {
            new_end = end.saturating_add(left);
        }
    }
    window.expand(begin, new_end);
}
