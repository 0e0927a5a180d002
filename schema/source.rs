// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Where the bytes of a message come from.

use crate::Error;
use core::fmt;

/// The bytes of a message that is not in memory as a whole, but in parts. What it lends stays
/// as it is for as long as the source is borrowed.
pub trait Source {
    /// How many bytes there are.
    fn size(&self) -> usize;

    /// The part that holds byte `at`, which there is.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`], with a code of its own.
    fn part(&self, at: usize) -> Result<Part<'_>, Error>;

    /// The `len` bytes from `at` on, which there are, and which lie in several parts: at most
    /// 64 KiB ([`crate::limits::MAX_XATTR_VALUE_BYTES`]).
    ///
    /// # Errors
    ///
    /// As [`Source::part`].
    fn join(&self, at: usize, len: usize) -> Result<&[u8], Error>;

    /// Whether so much is lent that a loop should go on in another scope. It is asked before each
    /// step of a loop. A step borrows some ten parts at most.
    fn is_full(&self) -> bool {
        false
    }

    /// Calls `function` with a source of the same bytes. What that one lends is given back when
    /// `function` returns. So a search costs no more memory than one step of it.
    ///
    /// # Errors
    ///
    /// Those of `function`.
    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn Source) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// A part of a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part<'a> {
    /// Where in the message it begins.
    pub start: usize,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// The `len` bytes of the message from `at` on, if they are all in it.
    #[inline]
    fn get(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(at.checked_sub(self.start)?..)?.get(..len)
    }
}

/// The bytes of a message, and the part of them that was looked at last: what is looked at
/// next is mostly near to it.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    last: Part<'a>,
    /// None if the part is all there is.
    source: Option<&'a dyn Source>,
}

impl<'a> Bytes<'a> {
    pub(crate) const fn in_memory(bytes: &'a [u8]) -> Self {
        Self {
            last: Part { start: 0, bytes },
            source: None,
        }
    }

    pub(crate) fn in_source(source: &'a dyn Source) -> Self {
        Self {
            last: Part::default(),
            source: Some(source),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.source
            .map_or(self.last.bytes.len(), |source| source.size())
    }

    /// The `len` bytes from `at` on, which the caller knows to be there.
    ///
    /// # Errors
    ///
    /// Those of the source.
    #[inline]
    pub(crate) fn get(&mut self, at: usize, len: usize) -> Result<&'a [u8], Error> {
        match self.last.get(at, len) {
            Some(bytes) => Ok(bytes),
            None => self.load(at, len),
        }
    }

    /// The same if they are in the part that was looked at last.
    #[inline]
    pub(crate) fn near(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.last.get(at, len)
    }

    /// What is in that part from `at` on.
    pub(crate) fn near_from(&self, at: usize) -> &'a [u8] {
        let Part { start, bytes } = self.last;
        let offset = at.checked_sub(start);
        offset
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default()
    }

    /// Calls `function` with the same bytes. What it borrows of a source is given back at its end.
    pub(crate) fn scope<R>(
        &self,
        mut function: impl FnMut(Bytes<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let Some(source) = self.source else {
            return function(*self);
        };
        let mut result = None;
        source.scope(&mut |source| {
            result = Some(function(Bytes::in_source(source))?);
            Ok(())
        })?;
        result.ok_or(Error::BadPointer)
    }

    /// Whether a loop should go on in another scope ([`Source::is_full`]).
    pub(crate) fn is_full(&self) -> bool {
        self.source.is_some_and(|source| source.is_full())
    }

    #[inline(never)]
    fn load(&mut self, at: usize, len: usize) -> Result<&'a [u8], Error> {
        if len == 0 {
            return Ok(&[]);
        }
        let source = self.source.ok_or(Error::BadPointer)?;
        self.last = source.part(at)?;
        match self.last.get(at, len) {
            Some(bytes) => Ok(bytes),
            None => source.join(at, len),
        }
    }
}

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
