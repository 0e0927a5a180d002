// SPDX-License-Identifier: GPL-2.0

//! Chunks that follow one another in a window, several at once.
//!
//! The reader itself reads them from their blobs, in turn: that is soon done, and goes by its
//! credentials and on its account. To verify and to decompress them takes long, but needs
//! nothing more, neither memory nor a file nor a lock: idle processors help with that.

use crate::{
    data::{self, Next, Piece},
    faults::Purpose,
    image::Image,
    run::Run,
    slot::{Key, Slot},
    store::Stored,
};
use kernel::prelude::*;
use vfs::{parallel, BitGuard, Inode, ReadWindow};

/// So many chunks for each task: they take differently long, and who is done first goes on
/// with another.
const CHUNKS_PER_TASK: usize = 2;

/// A piece of a chunk on its way.
struct Job<'a> {
    piece: Piece<'a>,
    chunk: Stored<'a>,
    key: Key,
    slot: KBox<Slot>,
    _reading: BitGuard<'a>,
}

impl<'a> Job<'a> {
    /// Reads the chunk of `piece`. None if it cannot be had at once, or is not the file's own:
    /// then the piece is to be read by itself, and that fails if it must.
    fn prepare(inode: &'a Inode<Image>, piece: Piece<'a>) -> Option<Self> {
        let image = inode.super_block().data();
        let purpose = Purpose::Inode(inode.ino());
        let chunk = image.store().stored(&piece.part.source, purpose).ok()?;
        let _reading = image.store().try_reading(chunk.digest())?;
        let key = Key {
            mount: image.pool().id(),
            digest: *chunk.digest(),
            compressed: piece.part.compressed,
        };
        let mut slot = image.pool().take(&key).ok()?;
        let size = slot.prepare(&key, &chunk, piece.len);
        if size.is_ok_and(|size| piece.is_of_own(size)) {
            return Some(Self {
                piece,
                chunk,
                key,
                slot,
                _reading,
            });
        }
        image.pool().put(slot);
        None
    }

    /// Verifies the chunk and decompresses the piece into `memory`.
    fn run(&mut self, memory: &mut [u8]) -> Result {
        let mut loaded = self.slot.load(&self.key, &self.chunk)?;
        if memory.len() == loaded.size() {
            loaded.write_to(memory)
        } else {
            loaded.copy_to(self.piece.start, memory)
        }
    }
}

/// Fills `window` with the pieces that come next, if they are two or more of chunks that the
/// file has to itself, and there is more than one processor. False if not.
///
/// # Errors
///
/// Those of the first chunk that is damaged. The others are in the page cache then.
pub(crate) fn read(inode: &Inode<Image>, run: &Run, window: &mut ReadWindow<'_>) -> Result<bool> {
    let image = inode.super_block().data();
    let tasks = parallel::tasks();
    if tasks == 1 || pieces(run, window).nth(1).is_none() {
        return Ok(false);
    }
    let most = tasks.saturating_mul(CHUNKS_PER_TASK);
    // One by one they need no memory for this.
    let Ok(mut jobs) = KVec::with_capacity(most, GFP_KERNEL) else {
        return Ok(false);
    };
    for piece in pieces(run, window).take(most) {
        let len = piece.len;
        let Some(job) = Job::prepare(inode, piece) else {
            break;
        };
        jobs.push((len, job), GFP_KERNEL)?;
    }
    let result = if jobs.len() > 1 {
        window.fill_parts(&mut jobs, Job::run).map(|helped| {
            image.store().stats().chunks_helped.add(helped as u64);
            true
        })
    } else {
        Ok(false)
    };
    for (_, job) in jobs {
        image.pool().put(job.slot);
    }
    result
}

/// The pieces that come next in the window, up to a hole.
fn pieces<'a>(run: &'a Run, window: &ReadWindow<'_>) -> impl Iterator<Item = Piece<'a>> {
    let mut position = window.position();
    let mut left = window.remaining();
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let Next::Piece(piece) = data::next(run, position, left).ok()? else {
            return None;
        };
        position = position.checked_add(piece.len as u64)?;
        left = left.checked_sub(piece.len as u64)?;
        Some(piece)
    })
}
