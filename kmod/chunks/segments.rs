// SPDX-License-Identifier: GPL-2.0

//! What is read of a pack does not stay in the page cache of the filesystem below.
//!
//! There it would be of no more use to us: decompressed, it is in the page cache of files or of the
//! chunk. But chunks share pages there, and readahead makes large folios of them. So nothing is
//! dropped until as many bytes of a segment were read as it has.
//!
//! What others have cached, a backup or another mount, stays. So whether there is anything of a
//! segment is asked before a read brings something of it there. A read that comes later may
//! not ask: it would find what we have brought.

use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use vfs::lower::LowerFile;

/// Of a segment, in bytes.
const BYTES: u64 = 1 << 20;

/// In the state of a segment: others had nothing of it when it was asked.
const OURS: u32 = 1 << 30;
/// In the state of a segment: others had some of it when it was asked.
const THEIRS: u32 = 1 << 31;

/// The segments of a pack.
pub(super) struct Segments {
    /// Of each: [`OURS`] or [`THEIRS`], or none of them while nobody has asked, and how many bytes
    /// were read of it.
    states: KVec<Atomic<u32>>,
    /// How many segments behind its own a read may bring something of.
    ahead: u64,
}

impl Segments {
    /// Those of the pack `file`, of `size` bytes. They serve all who read by the mount: no cgroup
    /// pays, least of all the first one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(file: &LowerFile, size: u64) -> Result<Self> {
        let count = usize::try_from(size.div_ceil(BYTES)).map_err(|_| EFBIG)?;
        let mut states = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            states.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let ahead = file.ahead_bytes().div_ceil(BYTES);
        Ok(Self { states, ahead })
    }

    fn state(&self, segment: u64) -> Option<&Atomic<u32>> {
        self.states.get(usize::try_from(segment).ok()?)
    }

    /// Asks whose the segments are that reading `len` bytes of `file` from `offset` on may bring
    /// something of. To be called before that read.
    pub(super) fn will_be_read(&self, file: &LowerFile, offset: u64, len: u64) {
        let last = offset.saturating_add(len).saturating_sub(1) / BYTES;
        for segment in offset / BYTES..=last.saturating_add(self.ahead) {
            let Some(state) = self.state(segment) else {
                return;
            };
            if state.load(Relaxed) != 0 {
                continue;
            }
            let whose = match file.has_cached(segment.saturating_mul(BYTES), BYTES) {
                true => THEIRS,
                false => OURS,
            };
            // Who asks later than another, and finds what that one has read, comes too late here.
            let _ = state.cmpxchg(0, whose, Relaxed);
        }
    }

    /// Notes that `len` bytes of `file` from `offset` on were read, and drops what was read
    /// as a whole.
    pub(super) fn have_been_read(&self, file: &LowerFile, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut start = offset;
        while start < end {
            let segment = start / BYTES;
            let next = segment.saturating_add(1).saturating_mul(BYTES);
            self.count(file, segment, next.min(end).saturating_sub(start));
            start = next;
        }
    }

    fn count(&self, file: &LowerFile, segment: u64, bytes: u64) {
        let (Some(state), Ok(bytes)) = (self.state(segment), u32::try_from(bytes)) else {
            return;
        };
        let now = state.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if u64::from(now & !(OURS | THEIRS)) < BYTES {
            return;
        }
        if now & THEIRS != 0 {
            // Whoever had it may have dropped it since.
            state.store(0, Relaxed);
            return;
        }
        // Not 0: some of it may be left, and that is not others'.
        state.store(OURS, Relaxed);
        // The segment before too: of what was read last, the kernel still holds folios on their way
        // to the LRU lists (`folio_batch`), and cannot drop them yet.
        let before = segment.checked_sub(1);
        let before = before.and_then(|before| Some((before, self.state(before)?)));
        let before = before.filter(|(_, state)| state.load(Relaxed) & OURS != 0);
        let first = before.map_or(segment, |(before, _)| before);
        let start = first.saturating_mul(BYTES);
        let end = segment.saturating_add(1).saturating_mul(BYTES);
        file.forget(start, end.saturating_sub(start));
        if let Some((_, state)) = before {
            // Nothing is left of it, unless somebody is reading it again.
            let _ = state.cmpxchg(OURS, 0, Relaxed);
        }
    }
}
