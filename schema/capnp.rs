// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! A bounded reader of Cap'n Proto messages, in the standard stream framing
//! (<https://capnproto.org/encoding.html>).
//!
//! Every access costs a bounded number of steps, whatever the message: at most one
//! far hop, and [`crate::limits::MAX_SEGMENTS`] additions to find each segment. So
//! there is no traversal limit, and pointers that alias each other do no harm.
//! Going through a list costs no more than its bytes do: elements of no size at
//! all, which could be a billion in one word, are refused. Buffers need not be
//! aligned.
//!
//! Structs may be shorter or longer than this reader's schema, as its rules of
//! evolution allow; what is missing reads as zero. Lists of structs must be
//! composite: the schema never had one of another kind to be upgraded from.

mod message;
mod near;

pub(crate) use message::array;
pub(crate) use near::{Near, Run};

use crate::source::Bytes;
use crate::Error;
use message::{bytes_of, follow, size, Object, Pointer, Segment, WORD};
use message::{ELEMENTS_BYTE, ELEMENTS_COMPOSITE, KIND_LIST, KIND_STRUCT};

/// Bytes of data of the largest struct that this reader knows, an inode. It looks at no more.
const MAX_DATA: usize = 48;

/// A struct. Fields and pointers past its end read as zero and null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Struct<'a> {
    segment: Segment<'a>,
    data: &'a [u8],
    /// Where in `segment` its pointers begin.
    pointers: usize,
    pointer_count: u16,
}

impl<'a> Struct<'a> {
    /// The root of the one message that `bytes` are.
    pub(crate) fn root(bytes: Bytes<'a>) -> Result<Self, Error> {
        let object = follow(Segment::first(bytes)?, 0)?.ok_or(Error::BadPointer)?;
        Self::from_object(object)
    }

    fn from_object(mut object: Object<'a>) -> Result<Self, Error> {
        if object.pointer.kind() != KIND_STRUCT {
            return Err(Error::BadPointer);
        }
        let size = object.pointer.struct_size();
        Self::at(&mut object.segment, object.at, size)
    }

    #[inline]
    fn at(
        segment: &mut Segment<'a>,
        at: usize,
        (data_words, pointer_count): (u16, u16),
    ) -> Result<Self, Error> {
        let data = bytes_of(data_words.into()).ok_or(Error::BadPointer)?;
        let len = bytes_of(pointer_count.into()).and_then(|len| len.checked_add(data));
        segment.check(at, len.ok_or(Error::BadPointer)?)?;
        let pointers = at.checked_add(data).ok_or(Error::BadPointer)?;
        let data = segment.get(at, data.min(MAX_DATA))?;
        Ok(Self {
            segment: *segment,
            data,
            pointers,
            pointer_count,
        })
    }

    /// The number at byte `at` of the data.
    #[inline]
    pub(crate) fn u64(&self, at: usize) -> u64 {
        array(self.data, at).map_or(0, u64::from_le_bytes)
    }

    /// The number at byte `at` of the data.
    #[inline]
    pub(crate) fn i64(&self, at: usize) -> i64 {
        array(self.data, at).map_or(0, i64::from_le_bytes)
    }

    /// The number at byte `at` of the data.
    #[inline]
    pub(crate) fn u32(&self, at: usize) -> u32 {
        array(self.data, at).map_or(0, u32::from_le_bytes)
    }

    /// The number at byte `at` of the data.
    #[inline]
    pub(crate) fn u16(&self, at: usize) -> u16 {
        array(self.data, at).map_or(0, u16::from_le_bytes)
    }

    /// Byte `at` of the data.
    #[inline]
    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or(0)
    }

    /// The lowest bit of byte `at` of the data.
    #[inline]
    pub(crate) fn bit0(&self, at: usize) -> bool {
        self.u8(at) & 1 != 0
    }

    /// Whether pointer `index` is null; without a look at what it leads to.
    #[inline]
    pub(crate) fn is_null(&self, index: u16) -> Result<bool, Error> {
        if index >= self.pointer_count {
            return Ok(true);
        }
        let at = bytes_of(index.into()).and_then(|offset| self.pointers.checked_add(offset));
        let mut segment = self.segment;
        Ok(Pointer::read(&mut segment, at.ok_or(Error::BadPointer)?)?.is_null())
    }

    /// What pointer `index` leads to; `None` if it is null.
    #[inline]
    fn object(&self, index: u16) -> Result<Option<Object<'a>>, Error> {
        if index >= self.pointer_count {
            return Ok(None);
        }
        let at = bytes_of(index.into()).and_then(|offset| self.pointers.checked_add(offset));
        follow(self.segment, at.ok_or(Error::BadPointer)?)
    }

    /// The struct that pointer `index` leads to; `None` if it is null.
    #[inline]
    pub(crate) fn structure(&self, index: u16) -> Result<Option<Struct<'a>>, Error> {
        match self.object(index)? {
            Some(object) => Self::from_object(object).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes (`Data`) that pointer `index` leads to, none if it is null: at most `max`.
    #[inline]
    pub(crate) fn data(&self, index: u16, max: usize) -> Result<&'a [u8], Error> {
        let Some(Object {
            pointer,
            mut segment,
            at,
        }) = self.object(index)?
        else {
            return Ok(&[]);
        };
        if pointer.kind() != KIND_LIST || pointer.high & 7 != ELEMENTS_BYTE {
            return Err(Error::BadPointer);
        }
        let len = size(pointer.high >> 3);
        if len > max {
            segment.check(at, len)?;
            return Err(Error::LimitExceeded);
        }
        segment.get(at, len)
    }

    /// The `N` bytes that pointer `index` leads to; `None` if it leads to any other number.
    #[inline]
    pub(crate) fn array<const N: usize>(&self, index: u16) -> Result<Option<[u8; N]>, Error> {
        match self.data(index, N) {
            Ok(bytes) => Ok(bytes.try_into().ok()),
            Err(Error::LimitExceeded) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The list of structs that pointer `index` leads to; empty if it is null.
    #[inline]
    pub(crate) fn list(&self, index: u16) -> Result<List<'a>, Error> {
        match self.object(index)? {
            Some(object) => List::from_object(object),
            None => Ok(List::EMPTY),
        }
    }
}

/// A list of structs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    segment: Segment<'a>,
    /// Where in `segment` element 0 begins.
    first: usize,
    len: u32,
    /// Words of data and number of pointers of each element.
    element: (u16, u16),
}

/// Where a [`List`] is, without the bytes of the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListPlace {
    segment: (usize, usize),
    first: usize,
    len: u32,
    element: (u16, u16),
}

impl ListPlace {
    /// Number of elements.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }
}

impl<'a> List<'a> {
    pub(crate) const EMPTY: Self = Self {
        segment: Segment::EMPTY,
        first: 0,
        len: 0,
        element: (0, 0),
    };

    /// Where in the message it is.
    pub(crate) fn place(&self) -> ListPlace {
        ListPlace {
            segment: self.segment.place(),
            first: self.first,
            len: self.len,
            element: self.element,
        }
    }

    /// The list at `place` of the message with these `bytes`.
    #[inline]
    pub(crate) fn at(place: &ListPlace, bytes: Bytes<'a>) -> Self {
        Self {
            segment: Segment::at(place.segment, bytes),
            first: place.first,
            len: place.len,
            element: place.element,
        }
    }

    #[inline]
    fn from_object(object: Object<'a>) -> Result<Self, Error> {
        let Object {
            pointer,
            mut segment,
            at,
        } = object;
        if pointer.kind() != KIND_LIST || pointer.high & 7 != ELEMENTS_COMPOSITE {
            return Err(Error::BadPointer);
        }
        // The elements follow a tag, which has the form of a struct pointer with
        // their number in the place of the offset.
        let tag = Pointer::read(&mut segment, at)?;
        if tag.kind() != KIND_STRUCT {
            return Err(Error::BadPointer);
        }
        let list = Self {
            segment,
            first: at.checked_add(WORD).ok_or(Error::BadPointer)?,
            len: tag.low >> 2,
            element: tag.struct_size(),
        };
        let announced = bytes_of(size(pointer.high >> 3)).ok_or(Error::BadPointer)?;
        let used = list.offset(list.len).ok_or(Error::BadPointer)?;
        segment.check(list.first, announced)?;
        let is_sizeless = used == 0 && list.len > 0;
        if used > announced || is_sizeless {
            return Err(Error::BadPointer);
        }
        Ok(list)
    }

    /// Calls `function` with this list, in a scope of its own ([`Bytes::scope`]).
    pub(crate) fn scope<R>(
        &self,
        mut function: impl FnMut(List<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let place = self.place();
        let bytes = self.segment.bytes();
        bytes.scope(|bytes| function(List::at(&place, bytes)))
    }

    /// Whether a loop over its elements should go on in another scope.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.segment.bytes().is_full()
    }

    /// Number of elements, each of a word or more.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where element `index` begins, from element 0.
    #[inline]
    fn offset(&self, index: u32) -> Option<usize> {
        let (data_words, pointer_count) = self.element;
        let words = usize::from(data_words).checked_add(pointer_count.into())?;
        bytes_of(words)?.checked_mul(size(index))
    }

    /// Where element `index` begins.
    #[inline]
    fn place_of(&self, index: u32) -> Result<usize, Error> {
        if index >= self.len {
            return Err(Error::OutOfRange);
        }
        let at = self
            .offset(index)
            .and_then(|offset| self.first.checked_add(offset));
        at.ok_or(Error::BadPointer)
    }

    /// Element `index`, near to which others will be asked for.
    #[inline]
    pub(crate) fn walk(&mut self, index: u32) -> Result<Struct<'a>, Error> {
        let at = self.place_of(index)?;
        Struct::at(&mut self.segment, at, self.element)
    }

    /// Element `index`.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Result<Struct<'a>, Error> {
        let mut this = *self;
        this.walk(index)
    }
}
