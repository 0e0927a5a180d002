// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Where the bytes of a message come from.

use crate::Error;
use core::fmt;

/// The bytes of a message that is not in memory as a whole.
pub trait Source {
    /// How many there are.
    fn size(&self) -> usize;

    /// The `len` bytes from `at` on, all of which it has. They stay as they are for as long
    /// as the source is borrowed.
    ///
    /// Nobody asks for more than 64 KiB at once ([`crate::limits::MAX_XATTR_VALUE_BYTES`]).
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`], with a code of its own.
    fn get(&self, at: usize, len: usize) -> Result<&[u8], Error>;
}

/// The bytes of a message, or of one of its segments.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    from: From<'a>,
    start: usize,
    len: usize,
}

#[derive(Clone, Copy)]
enum From<'a> {
    Memory(&'a [u8]),
    Source(&'a dyn Source),
}

impl<'a> Bytes<'a> {
    pub(crate) fn in_memory(bytes: &'a [u8]) -> Self {
        Self {
            from: From::Memory(bytes),
            start: 0,
            len: bytes.len(),
        }
    }

    pub(crate) fn in_source(source: &'a dyn Source) -> Self {
        Self {
            from: From::Source(source),
            start: 0,
            len: source.size(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part of `len` bytes from `at` on, if it is inside.
    #[inline]
    pub(crate) fn part(&self, at: usize, len: usize) -> Option<Self> {
        let end = at.checked_add(len)?;
        let start = self.start.checked_add(at)?;
        (end <= self.len).then_some(Self {
            start,
            len,
            ..*self
        })
    }

    /// The `len` bytes from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::BadPointer`] if they are not all inside, and those of the source.
    #[inline]
    pub(crate) fn get(&self, at: usize, len: usize) -> Result<&'a [u8], Error> {
        let part = self.part(at, len).ok_or(Error::BadPointer)?;
        match self.from {
            From::Memory(bytes) => bytes
                .get(part.start..)
                .and_then(|bytes| bytes.get(..len))
                .ok_or(Error::BadPointer),
            From::Source(_) if len == 0 => Ok(&[]),
            From::Source(source) => source.get(part.start, len),
        }
    }
}

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from {}", self.len, self.start)
    }
}
