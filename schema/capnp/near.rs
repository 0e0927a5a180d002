// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Elements of lists that lie in one part of a message with what they point to, as most do: to
//! read them takes few steps, and no copy of a segment.

use super::message::{array, bytes_of, size, Pointer, Segment, WORD};
use super::message::{ELEMENTS_BYTE, KIND_LIST};
use super::List;
use crate::Error;

/// The elements of a list from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    list: List<'a>,
    /// The present element.
    index: u32,
    /// Where it begins.
    at: usize,
    /// The bytes of it and of those behind it that are in the part of the message that was looked
    /// at last; none if nothing was looked at.
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    /// [`Self::walk`] for little work, if all of the element is in one part of the message.
    #[inline]
    pub(crate) fn near(&mut self, index: u32) -> Result<Option<Near<'_, 'a>>, Error> {
        let at = self.place_of(index)?;
        let (data, pointers) = self.element;
        let sizes = bytes_of(data.into()).zip(bytes_of(pointers.into()));
        let (data, pointers) = sizes.ok_or(Error::BadPointer)?;
        let len = data.checked_add(pointers).ok_or(Error::BadPointer)?;
        let mut bytes = self.segment.near(at, len);
        if bytes.is_none() {
            // From now on it may be that part. An element is a word or more.
            self.segment.get(at, WORD)?;
            bytes = self.segment.near(at, len);
        }
        let halves = bytes.and_then(|bytes| bytes.split_at_checked(data));
        Ok(halves.map(|(data, pointers)| Near {
            segment: &self.segment,
            at,
            data,
            pointers,
        }))
    }

    /// Its elements from `index` on.
    #[inline]
    pub(crate) fn run(&self, index: u32) -> Run<'a> {
        Run {
            list: *self,
            index,
            at: 0,
            bytes: &[],
        }
    }

    /// Bytes of data of an element, and of the whole element.
    #[inline]
    fn sizes(&self) -> (usize, usize) {
        let (data, pointers) = self.element;
        let data = usize::from(data).saturating_mul(WORD);
        let all = usize::from(pointers).saturating_mul(WORD);
        (data, all.saturating_add(data))
    }
}

impl<'a> Run<'a> {
    /// The list.
    pub(crate) fn list(&mut self) -> &mut List<'a> {
        &mut self.list
    }

    /// Which element is the present one.
    #[inline]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.index >= self.list.len
    }

    /// The present element, if all of it is in the part that was looked at last.
    #[inline]
    pub(crate) fn near(&self) -> Option<Near<'_, 'a>> {
        let (data, len) = self.list.sizes();
        let (data, pointers) = self.bytes.get(..len)?.split_at_checked(data)?;
        Some(Near {
            segment: &self.list.segment,
            at: self.at,
            data,
            pointers,
        })
    }

    /// Goes on to the next element.
    #[inline]
    pub(crate) fn advance(&mut self) {
        let (_, len) = self.list.sizes();
        self.index = self.index.saturating_add(1);
        self.at = self.at.saturating_add(len);
        self.bytes = self.bytes.get(len..).unwrap_or_default();
    }

    /// Looks at the part that the present element begins in.
    ///
    /// # Errors
    ///
    /// Those of the source.
    #[inline(never)]
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        let (_, len) = self.list.sizes();
        self.at = self.list.place_of(self.index)?;
        let left = size(self.list.len.saturating_sub(self.index));
        self.list.segment.get(self.at, WORD)?;
        self.bytes = self
            .list
            .segment
            .near_up_to(self.at, left.saturating_mul(len));
        Ok(())
    }
}

/// A struct all of which is in the part of the message that was looked at last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near<'l, 'a> {
    segment: &'l Segment<'a>,
    /// Where in `segment` it begins.
    at: usize,
    data: &'a [u8],
    pointers: &'a [u8],
}

impl<'a> Near<'_, 'a> {
    /// The number at byte `at` of the data.
    #[inline]
    pub(crate) fn u64(&self, at: usize) -> u64 {
        array(self.data, at).map_or(0, u64::from_le_bytes)
    }

    /// Byte `at` of the data.
    #[inline]
    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or(0)
    }

    /// The bytes (`Data`) that pointer `index` leads to, if they are at most `max`, in the same
    /// part, and nothing is wrong with the pointer: else [`Struct::data`] says.
    #[inline]
    pub(crate) fn data(&self, index: u16, max: usize) -> Option<&'a [u8]> {
        let offset = bytes_of(index.into())?;
        let pointer = Pointer::of(array(self.pointers, offset)?);
        if pointer.kind() != KIND_LIST || pointer.high & 7 != ELEMENTS_BYTE {
            return None;
        }
        let len = Some(size(pointer.high >> 3)).filter(|len| *len <= max)?;
        let from = self.at.checked_add(self.data.len())?.checked_add(offset)?;
        self.segment.near(pointer.target(from)?, len)
    }
}
