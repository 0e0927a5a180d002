// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! A bounded reader of Cap'n Proto messages, in the standard stream framing
//! (<https://capnproto.org/encoding.html>).
//!
//! Every access costs a bounded number of steps, whatever the message: at most one
//! far hop and [`limits::MAX_SEGMENTS`] additions to find a segment. So there is no
//! traversal limit, and pointers that alias each other do no harm. Buffers need
//! not be aligned.
//!
//! Structs may be shorter or longer than this reader's schema, as its rules of
//! evolution allow; what is missing reads as zero. Lists of structs must be
//! composite: the schema never had one of another kind to be upgraded from.

use crate::{limits, Error};

/// Bytes of a word, the unit of every offset and size on the wire.
const WORD: usize = 8;

/// Widens a number from the wire. It saturates where `usize` is too small, and the
/// bounds check that follows refuses it.
#[inline]
fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// `words` in bytes; `None` if that is more than memory can hold.
#[inline]
fn bytes_of(words: usize) -> Option<usize> {
    words.checked_mul(WORD)
}

/// The `N` bytes from `at`.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A message: its segments one after the other.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    /// The sizes of the segments in words, a `u32` each.
    table: &'a [u8],
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Checks that `bytes` are exactly one message.
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let last: [u8; 4] = array(bytes, 0).ok_or(Error::Truncated)?;
        let last = u32::from_le_bytes(last);
        if last >= limits::MAX_SEGMENTS {
            return Err(Error::LimitExceeded);
        }
        // The count and the sizes fill whole words.
        let header = bytes_of(size(last / 2).saturating_add(1)).ok_or(Error::Truncated)?;
        let (header, body) = bytes.split_at_checked(header).ok_or(Error::Truncated)?;
        let sizes = 4..size(last).saturating_mul(4).saturating_add(8);
        let table = header.get(sizes).ok_or(Error::Truncated)?;

        let message = Self { table, body };
        let end = message.sizes().try_fold(0, usize::checked_add);
        match body.len().cmp(&end.ok_or(Error::Truncated)?) {
            core::cmp::Ordering::Less => Err(Error::Truncated),
            core::cmp::Ordering::Equal => Ok(message),
            core::cmp::Ordering::Greater => Err(Error::TrailingBytes),
        }
    }

    /// The sizes of the segments.
    #[inline]
    fn sizes(&self) -> impl Iterator<Item = usize> + 'a {
        self.table.chunks_exact(4).map(|entry| {
            let words = array(entry, 0).map_or(0, u32::from_le_bytes);
            bytes_of(size(words)).unwrap_or(usize::MAX)
        })
    }

    /// Segment `id`.
    #[inline]
    fn segment(&self, id: u32) -> Result<&'a [u8], Error> {
        let mut start: usize = 0;
        for (i, len) in self.sizes().enumerate() {
            let end = start.checked_add(len).ok_or(Error::BadPointer)?;
            if i == size(id) {
                return self.body.get(start..end).ok_or(Error::BadPointer);
            }
            start = end;
        }
        Err(Error::BadPointer)
    }
}

/// The two halves of a pointer's word.
#[derive(Clone, Copy)]
struct Pointer {
    /// Kind in the low two bits, then the offset.
    low: u32,
    /// What is there, or for a far pointer in which segment.
    high: u32,
}

/// Low two bits of [`Pointer::low`].
const KIND_STRUCT: u32 = 0;
const KIND_LIST: u32 = 1;
const KIND_FAR: u32 = 2;

/// Low three bits of a list pointer's [`Pointer::high`].
const ELEMENTS_BYTE: u32 = 2;
const ELEMENTS_COMPOSITE: u32 = 7;

impl Pointer {
    #[inline]
    fn read(segment: &[u8], at: usize) -> Result<Self, Error> {
        let [a, b, c, d, e, f, g, h] = array(segment, at).ok_or(Error::BadPointer)?;
        Ok(Self {
            low: u32::from_le_bytes([a, b, c, d]),
            high: u32::from_le_bytes([e, f, g, h]),
        })
    }

    #[inline]
    fn is_null(self) -> bool {
        self.low == 0 && self.high == 0
    }

    #[inline]
    fn kind(self) -> u32 {
        self.low & 3
    }

    /// Where a struct or list pointer at `at` leads: its offset counts words from
    /// the pointer's end, with a sign.
    #[inline]
    fn target(self, at: usize) -> Option<usize> {
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
    fn struct_size(self) -> (u16, u16) {
        let [a, b, c, d] = self.high.to_le_bytes();
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
    }
}

/// What a pointer leads to, after any far hop.
struct Object<'a> {
    pointer: Pointer,
    segment: &'a [u8],
    at: usize,
}

/// Follows the pointer at `at`; `None` if it is null.
#[inline]
fn follow<'a>(
    message: Message<'a>,
    segment: &'a [u8],
    at: usize,
) -> Result<Option<Object<'a>>, Error> {
    let pointer = Pointer::read(segment, at)?;
    if pointer.is_null() {
        return Ok(None);
    }
    let object = if pointer.kind() == KIND_FAR {
        follow_far(message, pointer)?
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
fn follow_far(message: Message<'_>, far: Pointer) -> Result<Object<'_>, Error> {
    let segment = message.segment(far.high)?;
    let pad = far.landing().ok_or(Error::BadPointer)?;
    let pointer = Pointer::read(segment, pad)?;

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
    let tag = Pointer::read(segment, pad.checked_add(WORD).ok_or(Error::BadPointer)?)?;
    Ok(Object {
        pointer: tag,
        segment: message.segment(pointer.high)?,
        at: pointer.landing().ok_or(Error::BadPointer)?,
    })
}

/// A struct. Fields and pointers past its end read as zero and null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Struct<'a> {
    message: Message<'a>,
    segment: &'a [u8],
    data: &'a [u8],
    /// Where in `segment` its pointers begin.
    pointers: usize,
    pointer_count: u16,
}

impl<'a> Struct<'a> {
    /// The root of the one message that `bytes` are.
    pub(crate) fn root(bytes: &'a [u8]) -> Result<Self, Error> {
        let message = Message::parse(bytes)?;
        let object = follow(message, message.segment(0)?, 0)?.ok_or(Error::BadPointer)?;
        Self::from_object(message, object)
    }

    fn from_object(message: Message<'a>, object: Object<'a>) -> Result<Self, Error> {
        if object.pointer.kind() != KIND_STRUCT {
            return Err(Error::BadPointer);
        }
        let size = object.pointer.struct_size();
        Self::at(message, object.segment, object.at, size).ok_or(Error::BadPointer)
    }

    #[inline]
    fn at(
        message: Message<'a>,
        segment: &'a [u8],
        at: usize,
        (data_words, pointer_count): (u16, u16),
    ) -> Option<Self> {
        let pointers = at.checked_add(bytes_of(data_words.into())?)?;
        let end = pointers.checked_add(bytes_of(pointer_count.into())?)?;
        if end > segment.len() {
            return None;
        }
        let data = segment.get(at..pointers)?;
        Some(Self {
            message,
            segment,
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

    /// The lowest bit of byte `at` of the data.
    #[inline]
    pub(crate) fn bit0(&self, at: usize) -> bool {
        self.data.get(at).is_some_and(|byte| byte & 1 != 0)
    }

    /// What pointer `index` leads to; `None` if it is null.
    #[inline]
    fn object(&self, index: u16) -> Result<Option<Object<'a>>, Error> {
        if index >= self.pointer_count {
            return Ok(None);
        }
        let at = bytes_of(index.into()).and_then(|offset| self.pointers.checked_add(offset));
        follow(self.message, self.segment, at.ok_or(Error::BadPointer)?)
    }

    /// The struct that pointer `index` leads to; `None` if it is null.
    #[inline]
    pub(crate) fn structure(&self, index: u16) -> Result<Option<Struct<'a>>, Error> {
        match self.object(index)? {
            Some(object) => Self::from_object(self.message, object).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes (`Data`) that pointer `index` leads to; `None` if it is null.
    #[inline]
    pub(crate) fn data(&self, index: u16) -> Result<Option<&'a [u8]>, Error> {
        let Some(Object {
            pointer,
            segment,
            at,
        }) = self.object(index)?
        else {
            return Ok(None);
        };
        if pointer.kind() != KIND_LIST || pointer.high & 7 != ELEMENTS_BYTE {
            return Err(Error::BadPointer);
        }
        let end = at
            .checked_add(size(pointer.high >> 3))
            .ok_or(Error::BadPointer)?;
        segment.get(at..end).map(Some).ok_or(Error::BadPointer)
    }

    /// The list of structs that pointer `index` leads to; empty if it is null.
    #[inline]
    pub(crate) fn list(&self, index: u16) -> Result<List<'a>, Error> {
        match self.object(index)? {
            Some(object) => List::from_object(self.message, object),
            None => Ok(List {
                message: self.message,
                segment: &[],
                first: 0,
                len: 0,
                element: (0, 0),
            }),
        }
    }
}

/// A list of structs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    message: Message<'a>,
    segment: &'a [u8],
    /// Where in `segment` element 0 begins.
    first: usize,
    len: u32,
    /// Words of data and number of pointers of each element.
    element: (u16, u16),
}

impl<'a> List<'a> {
    #[inline]
    fn from_object(message: Message<'a>, object: Object<'a>) -> Result<Self, Error> {
        let Object {
            pointer,
            segment,
            at,
        } = object;
        if pointer.kind() != KIND_LIST || pointer.high & 7 != ELEMENTS_COMPOSITE {
            return Err(Error::BadPointer);
        }
        // The elements follow a tag, which has the form of a struct pointer with
        // their number in the place of the offset.
        let tag = Pointer::read(segment, at)?;
        if tag.kind() != KIND_STRUCT {
            return Err(Error::BadPointer);
        }
        let list = Self {
            message,
            segment,
            first: at.checked_add(WORD).ok_or(Error::BadPointer)?,
            len: tag.low >> 2,
            element: tag.struct_size(),
        };
        let announced = bytes_of(size(pointer.high >> 3)).ok_or(Error::BadPointer)?;
        let used = list.offset(list.len).ok_or(Error::BadPointer)?;
        let end = list.first.checked_add(announced).ok_or(Error::BadPointer)?;
        if used > announced || end > segment.len() {
            return Err(Error::BadPointer);
        }
        Ok(list)
    }

    /// Number of elements. Their size may be zero, so it says nothing about the
    /// size of the message.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Where element `index` begins, from element 0.
    #[inline]
    fn offset(&self, index: u32) -> Option<usize> {
        let (data_words, pointer_count) = self.element;
        let words = usize::from(data_words).checked_add(pointer_count.into())?;
        bytes_of(words)?.checked_mul(size(index))
    }

    /// Element `index`.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Result<Struct<'a>, Error> {
        if index >= self.len {
            return Err(Error::OutOfRange);
        }
        self.offset(index)
            .and_then(|offset| self.first.checked_add(offset))
            .and_then(|at| Struct::at(self.message, self.segment, at, self.element))
            .ok_or(Error::BadPointer)
    }
}
