// SPDX-License-Identifier: GPL-2.0

//! Reading a [`PrivateCache`] in place.

use crate::{
    private_cache::{PinnedFolio, PrivateCache},
    task::killed,
};
use core::cell::{Cell, UnsafeCell};
use kernel::prelude::*;

/// How often a folio is loaded again that was reclaimed before it could be used.
const MAX_LOADS: usize = 8;

/// What is pinned and copied when a reader is full, in bytes and in folios: whoever can goes on
/// with another one.
const FULL_BYTES: usize = 1 << 20;
const FULL_PINS: usize = 32;

/// The most that one reader pins and copies, in bytes and in folios. A step that begins before the
/// reader is full stays far below. Pinned memory is not reclaimed: too much of it, and the machine
/// has none.
const MAX_BYTES: usize = 4 << 20;
const MAX_PINS: usize = 128;

/// Folios that are pinned between two looks for a fatal signal. Most operations need fewer.
const PINS_PER_LOOK: usize = 8;

/// The memory of a folio that is pinned.
#[derive(Clone, Copy)]
struct Span {
    /// Where in the cache it begins.
    start: u64,
    memory: *const [u8],
}

impl Span {
    fn holds(&self, position: u64) -> bool {
        let offset = position.checked_sub(self.start);
        offset.is_some_and(|offset| offset < self.memory.len() as u64)
    }
}

/// Lends bytes of a [`PrivateCache`] as they lie there. What it has lent stays until it is
/// dropped, and is never more than [`MAX_BYTES`]: meant to live for one step of an operation
/// (`struct erofs_buf` for some blocks).
///
/// # Invariants
///
/// What is in `pins`, `more_pins` and `copies` is not changed or dropped before `self` is. The
/// spans are those of `pins`, or empty.
pub struct CacheReader<'a> {
    cache: &'a PrivateCache,
    /// The first ones; most operations need no more.
    pins: UnsafeCell<[Option<(PinnedFolio, Span)>; 4]>,
    more_pins: UnsafeCell<KVec<(PinnedFolio, Span)>>,
    /// What does not lie in one folio.
    copies: UnsafeCell<KVec<KVVec<u8>>>,
    /// The spans used last, since most of what is read is near to what was: each at the
    /// remainder of its position, counted in steps of [`STEP_BITS`].
    last: [Cell<Span>; 4],
    /// How much is pinned and copied, in bytes.
    bytes: Cell<usize>,
    /// How many folios are pinned.
    count: Cell<usize>,
}

/// Bytes that share a place in [`CacheReader::last`], as a power of 2: 64 KiB.
const STEP_BITS: u32 = 16;

impl<'a> CacheReader<'a> {
    /// A reader of `cache` that has lent nothing.
    pub fn new(cache: &'a PrivateCache) -> Self {
        let empty: &[u8] = &[];
        let span = Span {
            start: 0,
            memory: empty,
        };
        // INVARIANT: Nothing is there.
        Self {
            cache,
            pins: UnsafeCell::new([const { None }; 4]),
            more_pins: UnsafeCell::new(KVec::new()),
            copies: UnsafeCell::new(KVec::new()),
            last: [span; 4].map(Cell::new),
            bytes: Cell::new(0),
            count: Cell::new(0),
        }
    }

    /// Whether it has lent so much that a loop should take another reader for its next step.
    pub fn is_full(&self) -> bool {
        self.bytes.get() >= FULL_BYTES || self.count.get() >= FULL_PINS
    }

    /// Counts `len` bytes that are about to be pinned or copied.
    fn take(&self, len: usize) -> Result {
        let bytes = self.bytes.get().saturating_add(len);
        if bytes > MAX_BYTES {
            return Err(EFBIG);
        }
        self.bytes.set(bytes);
        Ok(())
    }

    /// The cache.
    pub fn cache(&self) -> &'a PrivateCache {
        self.cache
    }

    /// The folio that holds `position`: where in the cache it begins, and its bytes. `load`
    /// is called with a position that is not there, to fill the cache with it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EFBIG` for a position that the page cache cannot have or if the reader has lent
    /// all that it may, `EINTR` when the task was killed, and those of `load`.
    pub fn folio(
        &self,
        position: u64,
        mut load: impl FnMut(u64) -> Result,
    ) -> Result<(u64, &[u8])> {
        let step = (position >> STEP_BITS) as usize;
        let place = self.last.get(step % self.last.len()).ok_or(EINVAL)?;
        if !place.get().holds(position) {
            // INVARIANT: It is the one of a pin.
            place.set(self.find(position, &mut load)?);
        }
        let span = place.get();
        // SAFETY: By the invariants the folio is pinned as long as `self` is, and the content
        // of a folio in a private cache does not change.
        Ok((span.start, unsafe { &*span.memory }))
    }

    /// A copy of the `len` bytes at `position`, for those that do not lie in one folio.
    ///
    /// # Errors
    ///
    /// As [`CacheReader::folio`].
    pub fn join(
        &self,
        position: u64,
        len: usize,
        mut load: impl FnMut(u64) -> Result,
    ) -> Result<&[u8]> {
        self.take(len)?;
        let mut copy = KVVec::with_capacity(len, GFP_KERNEL)?;
        while copy.len() < len {
            let at = position.saturating_add(copy.len() as u64);
            let (start, bytes) = self.folio(at, &mut load)?;
            let offset = usize::try_from(at - start).map_err(|_| EFBIG)?;
            let bytes = bytes.get(offset..).ok_or(EFBIG)?;
            let bytes = bytes.get(..len - copy.len()).unwrap_or(bytes);
            copy.extend_from_slice(bytes, GFP_KERNEL)?;
        }
        // SAFETY: Nothing else refers to the vector itself: this type is not `Sync`, and
        // what is lent lies elsewhere on the heap.
        let copies = unsafe { &mut *self.copies.get() };
        copies.push(copy, GFP_KERNEL)?;
        let copy: &[u8] = copies.last().ok_or(EINVAL)?;
        // SAFETY: By the invariants it stays where it is, unchanged, as long as `self` is.
        Ok(unsafe { core::slice::from_raw_parts(copy.as_ptr(), copy.len()) })
    }

    /// The span of a pin that holds `position`.
    fn find(&self, position: u64, load: &mut impl FnMut(u64) -> Result) -> Result<Span> {
        for _ in 0..MAX_LOADS {
            // SAFETY: Nothing else refers to array and vector, as above; nor are these
            // references used any more when `load` is called.
            let (pins, more) = unsafe { (&mut *self.pins.get(), &mut *self.more_pins.get()) };
            let holds = |pin: &&(PinnedFolio, Span)| pin.1.holds(position);
            let pinned = pins.iter().flatten().find(holds);
            if let Some((_, span)) = pinned.or_else(|| more.iter().rev().find(holds)) {
                return Ok(*span);
            }
            match self.cache.pin(position)? {
                Some(pin) => {
                    if self.count.get() >= MAX_PINS {
                        return Err(EFBIG);
                    }
                    self.take(pin.bytes().len())?;
                    self.count.set(self.count.get().saturating_add(1));
                    if self.count.get() % PINS_PER_LOOK == 0 && killed() {
                        return Err(EINTR);
                    }
                    let span = Span {
                        start: pin.position(),
                        memory: pin.bytes(),
                    };
                    match pins.iter_mut().find(|place| place.is_none()) {
                        Some(place) => *place = Some((pin, span)),
                        None => more.push((pin, span), GFP_KERNEL)?,
                    }
                }
                None => {
                    if killed() {
                        return Err(EINTR);
                    }
                    load(position)?;
                }
            }
        }
        // Memory is so short that it goes before it can be used.
        Err(ENOMEM)
    }
}
