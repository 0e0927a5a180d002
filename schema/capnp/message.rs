// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! The frame of a message: segments, and the pointers between their words.

use crate::source::Bytes;
use crate::{limits, Error};
use core::cmp::Ordering;

/// Bytes of a word, the unit of every offset and size on the wire.
pub(super) const WORD: usize = 8;

/// Widens a number from the wire. It saturates where `usize` is too small, and the
/// bounds check that follows refuses it.
#[inline]
pub(super) fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// `words` in bytes; `None` if that is more than memory can hold.
#[inline]
pub(super) fn bytes_of(words: usize) -> Option<usize> {
    words.checked_mul(WORD)
}

/// The `N` bytes from `at`.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A segment of a message. It is copied at every step, and so it is small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    /// The whole message.
    bytes: Bytes<'a>,
    /// Where in it this segment begins.
    start: usize,
    len: usize,
}

impl<'a> Segment<'a> {
    /// One without any bytes.
    pub(super) const EMPTY: Self = Self {
        bytes: Bytes::in_memory(&[]),
        start: 0,
        len: 0,
    };

    /// The first segment of `bytes`, which are checked to be exactly one message.
    pub(super) fn first(mut bytes: Bytes<'a>) -> Result<Self, Error> {
        let (table, body) = header(&mut bytes)?;
        let left = bytes.len().checked_sub(body).ok_or(Error::Truncated)?;
        let sum = sizes(table).try_fold(0, usize::checked_add);
        match left.cmp(&sum.ok_or(Error::Truncated)?) {
            Ordering::Less => Err(Error::Truncated),
            Ordering::Greater => Err(Error::TrailingBytes),
            Ordering::Equal => {
                let len = sizes(table).next().ok_or(Error::Truncated)?;
                let start = body;
                Ok(Self { bytes, start, len })
            }
        }
    }

    /// Segment `id` of the same message.
    fn other(self, id: u32) -> Result<Self, Error> {
        let mut bytes = self.bytes;
        let (table, mut start) = header(&mut bytes)?;
        for (i, len) in sizes(table).enumerate() {
            if i == size(id) {
                return Ok(Self { bytes, start, len });
            }
            start = start.checked_add(len).ok_or(Error::BadPointer)?;
        }
        Err(Error::BadPointer)
    }

    /// The whole message.
    pub(super) fn bytes(&self) -> &Bytes<'a> {
        &self.bytes
    }

    /// Where in the message it is, and how long.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.start, self.len)
    }

    /// The segment at a [`Segment::place`] of the message with these `bytes`.
    #[inline]
    pub(super) fn at((start, len): (usize, usize), bytes: Bytes<'a>) -> Self {
        Self { bytes, start, len }
    }

    /// Checks that it has `len` bytes from `at` on.
    #[inline]
    pub(super) fn check(&self, at: usize, len: usize) -> Result<(), Error> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::BadPointer),
        }
    }

    /// The `len` bytes from `at` on. What is near to them is cheap to get from then on.
    ///
    /// # Errors
    ///
    /// [`Error::BadPointer`] if they are not all inside, and those of the source.
    #[inline]
    pub(super) fn get(&mut self, at: usize, len: usize) -> Result<&'a [u8], Error> {
        self.check(at, len)?;
        let at = self.start.checked_add(at).ok_or(Error::BadPointer)?;
        self.bytes.get(at, len)
    }

    /// The same if they are in the part of the message that was looked at last.
    #[inline]
    pub(super) fn near(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.check(at, len).ok()?;
        self.bytes.near(self.start.checked_add(at)?, len)
    }

    /// As many of the `max` bytes from `at` on as are in that part.
    pub(super) fn near_up_to(&self, at: usize, max: usize) -> &'a [u8] {
        let max = max.min(self.len.saturating_sub(at));
        let bytes = self
            .start
            .checked_add(at)
            .map(|at| self.bytes.near_from(at));
        let bytes = bytes.unwrap_or_default();
        bytes.get(..max).unwrap_or(bytes)
    }
}

/// The header of a message: the sizes of its segments in words, a `u32` each, and where the
/// first one begins.
fn header<'a>(bytes: &mut Bytes<'a>) -> Result<(&'a [u8], usize), Error> {
    let total = bytes.len();
    let mut get = |at: usize, len: usize| match at.checked_add(len) {
        Some(end) if end <= total => bytes.get(at, len),
        _ => Err(Error::Truncated),
    };
    let last: [u8; 4] = array(get(0, 4)?, 0).ok_or(Error::Truncated)?;
    let last = u32::from_le_bytes(last);
    if last >= limits::MAX_SEGMENTS {
        return Err(Error::LimitExceeded);
    }
    let table = get(4, size(last).saturating_mul(4).saturating_add(4))?;
    // The count and the sizes fill whole words.
    let words = size(last.div_ceil(2)).saturating_add(1);
    Ok((table, bytes_of(words).ok_or(Error::Truncated)?))
}

/// The sizes of the segments in a table.
#[inline]
fn sizes(table: &[u8]) -> impl Iterator<Item = usize> + '_ {
    table.chunks_exact(4).map(|entry| {
        let words = array(entry, 0).map_or(0, u32::from_le_bytes);
        bytes_of(size(words)).unwrap_or(usize::MAX)
    })
}

/// The two halves of a pointer's word.
#[derive(Clone, Copy)]
pub(super) struct Pointer {
    /// Kind in the low two bits, then the offset.
    pub(super) low: u32,
    /// What is there, or for a far pointer in which segment.
    pub(super) high: u32,
}

/// Low two bits of [`Pointer::low`].
pub(super) const KIND_STRUCT: u32 = 0;
pub(super) const KIND_LIST: u32 = 1;
const KIND_FAR: u32 = 2;

/// Low three bits of a list pointer's [`Pointer::high`].
pub(super) const ELEMENTS_BYTE: u32 = 2;
pub(super) const ELEMENTS_COMPOSITE: u32 = 7;

impl Pointer {
    #[inline]
    pub(super) fn read(segment: &mut Segment<'_>, at: usize) -> Result<Self, Error> {
        let word = array(segment.get(at, WORD)?, 0);
        Ok(Self::of(word.ok_or(Error::BadPointer)?))
    }

    #[inline]
    pub(super) fn of([a, b, c, d, e, f, g, h]: [u8; WORD]) -> Self {
        Self {
            low: u32::from_le_bytes([a, b, c, d]),
            high: u32::from_le_bytes([e, f, g, h]),
        }
    }

    #[inline]
    pub(super) fn is_null(self) -> bool {
        self.low == 0 && self.high == 0
    }

    #[inline]
    pub(super) fn kind(self) -> u32 {
        self.low & 3
    }

    /// Where a struct or list pointer at `at` leads: its offset counts words from
    /// the pointer's end, with a sign.
    #[inline]
    pub(super) fn target(self, at: usize) -> Option<usize> {
        let words = i32::from_ne_bytes(self.low.to_ne_bytes()) >> 2;
        let bytes = isize::try_from(words).ok()?.checked_mul(8)?;
        at.checked_add(WORD)?.checked_add_signed(bytes)
    }

    /// Where in its segment a far pointer leads.
    #[inline]
    fn landing(self) -> Option<usize> {
        bytes_of(size(self.low >> 3))
    }

    /// Words of data and number of pointers of a struct.
    #[inline]
    pub(super) fn struct_size(self) -> (u16, u16) {
        let [a, b, c, d] = self.high.to_le_bytes();
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
    }
}

/// What a pointer leads to, after any far hop.
pub(super) struct Object<'a> {
    pub(super) pointer: Pointer,
    pub(super) segment: Segment<'a>,
    pub(super) at: usize,
}

/// Follows the pointer at `at`; `None` if it is null.
#[inline]
pub(super) fn follow(mut segment: Segment<'_>, at: usize) -> Result<Option<Object<'_>>, Error> {
    let pointer = Pointer::read(&mut segment, at)?;
    if pointer.is_null() {
        return Ok(None);
    }
    let object = if pointer.kind() == KIND_FAR {
        follow_far(segment, pointer)?
    } else {
        let at = pointer.target(at).ok_or(Error::BadPointer)?;
        Object {
            pointer,
            segment,
            at,
        }
    };
    Ok(Some(object))
}

/// Follows a far pointer: its landing pad is either the pointer proper, or (double
/// far) another far pointer to the content and then a tag that says what it is.
fn follow_far(segment: Segment<'_>, far: Pointer) -> Result<Object<'_>, Error> {
    let mut segment = segment.other(far.high)?;
    let pad = far.landing().ok_or(Error::BadPointer)?;
    let pointer = Pointer::read(&mut segment, pad)?;

    let is_double = far.low & 4 != 0;
    if !is_double {
        let at = pointer.target(pad).ok_or(Error::BadPointer)?;
        return Ok(Object {
            pointer,
            segment,
            at,
        });
    }
    if pointer.low & 7 != KIND_FAR {
        return Err(Error::BadPointer);
    }
    let tag = pad.checked_add(WORD).ok_or(Error::BadPointer)?;
    Ok(Object {
        pointer: Pointer::read(&mut segment, tag)?,
        segment: segment.other(pointer.high)?,
        at: pointer.landing().ok_or(Error::BadPointer)?,
    })
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::arithmetic_side_effects)]
mod tests;
