// SPDX-License-Identifier: GPL-2.0

//! Chunks that follow one another in a window, several at once.
//!
//! The reader itself reads them from their blobs, in turn: that is soon done, and goes by its
//! credentials and on its account. To verify and to decompress them takes long, but needs
//! nothing more, neither memory nor a file nor a lock: idle processors help with that.

use super::{
    file::File,
    piece::{self, Piece},
};
use crate::{content::Prepared, metadata::Run};
use kernel::prelude::*;
use vfs::{parallel, ReadWindow};

/// How many chunks there are for each task. One takes longer than another, so a task that is done
/// early goes on with a second one.
const CHUNKS_PER_TASK: usize = 2;

/// Reads the chunk of `piece`. None if it cannot be had at once, or is not the file's own: then
/// the piece is to be read by itself, and that fails if it must.
fn prepare<'a>(file: &File<'a>, piece: &Piece<'a>) -> Option<Prepared<'a>> {
    let chunk = piece.extent.chunk(file.content(), file.purpose()).ok()?;
    let locked = chunk.try_lock()?;
    locked.prepare(piece.len, |size| piece.is_of_own(size))
}

/// Fills `window` with the pieces that come next, if they are two or more of chunks that the
/// file has to itself, and there is more than one processor. False if not.
///
/// # Errors
///
/// Those of the first chunk that is damaged. The others are in the page cache then.
// Not inlined: its frame is not to be on the stack where a chunk is read by itself.
#[inline(never)]
pub(super) fn read(file: &File<'_>, run: &Run, window: &mut ReadWindow<'_>) -> Result<bool> {
    let tasks = parallel::tasks();
    let pieces = || piece::pieces(run, window.position(), window.remaining());
    if tasks == 1 || pieces().nth(1).is_none() {
        return Ok(false);
    }
    let most = tasks.saturating_mul(CHUNKS_PER_TASK);
    // One by one they need no memory for this.
    let Ok(mut jobs) = KVec::with_capacity(most, GFP_KERNEL) else {
        return Ok(false);
    };
    for piece in pieces().take(most) {
        let Some(prepared) = prepare(file, &piece) else {
            break;
        };
        jobs.push((piece.len, (piece.start, prepared)), GFP_KERNEL)?;
    }
    if jobs.len() < 2 {
        return Ok(false);
    }
    let helped = window.fill_parts(&mut jobs, |(start, prepared), output| {
        prepared.read(*start, output)
    })?;
    let counters = file.content().chunks().counters();
    counters.chunks_helped.add(helped as u64);
    Ok(true)
}
