// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Directories.

use crate::capnp::{List, ListPlace, Struct};
use crate::source::Bytes;
use crate::{limits, Error};
use core::{cmp::Ordering, ops::Range};

// Dir: pointers.
const ENTRIES: u16 = 0;
// Dir: bytes of data.
const FLAGS: usize = 0;
const SORTED: u16 = 2;

// DirEntry: bytes of data, pointers.
const INO: usize = 0;
const NAME: u16 = 0;

/// A directory's entries, without `.` and `..`.
#[derive(Clone, Copy, Debug)]
pub struct Dir<'a> {
    entries: Option<List<'a>>,
    says_sorted: bool,
}

/// Where a [`Dir`] is, without the bytes of the message: to be kept and used again
/// ([`crate::Rootfs::dir`]).
#[derive(Clone, Copy, Debug)]
pub struct DirPlace {
    entries: Option<ListPlace>,
    says_sorted: bool,
}

/// A name in a directory, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode's number; never 0.
    pub ino: u64,
    /// 1 to 255 bytes without NUL and `/`; neither `.` nor `..`.
    pub name: &'a [u8],
}

impl<'a> DirEntry<'a> {
    #[inline]
    fn new(ino: u64, name: &'a [u8]) -> Result<Self, Error> {
        let is_special = matches!(name, b"" | b"." | b"..");
        if ino == 0 || is_special || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Error::BadDirEntry);
        }
        Ok(Self { ino, name })
    }
}

/// The order of two names by their bytes, as `Ord` of slices has it. That one subtracts
/// lengths, which can panic, as far as the compiler knows.
#[inline]
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.len().min(b.len());
    let heads = (a.get(..common), b.get(..common));
    heads.0.cmp(&heads.1).then(a.len().cmp(&b.len()))
}

impl<'a> Dir<'a> {
    pub(crate) fn new(dir: Option<Struct<'a>>) -> Result<Self, Error> {
        let entries = dir.map(|dir| dir.list(ENTRIES)).transpose()?;
        let says_sorted = dir.is_some_and(|dir| dir.u16(FLAGS) & SORTED != 0);
        let this = Self {
            entries,
            says_sorted,
        };
        if this.len() > limits::MAX_DIR_ENTRIES {
            return Err(Error::LimitExceeded);
        }
        Ok(this)
    }

    /// Where in the message it is.
    pub fn place(&self) -> DirPlace {
        DirPlace {
            entries: self.entries.as_ref().map(List::place),
            says_sorted: self.says_sorted,
        }
    }

    /// The directory at `place` of the message with these `bytes`.
    #[inline]
    pub(crate) fn at(place: &DirPlace, bytes: Bytes<'a>) -> Self {
        Self {
            entries: place.entries.as_ref().map(|list| List::at(list, bytes)),
            says_sorted: place.says_sorted,
        }
    }

    /// Number of entries, those of removed inodes among them
    /// ([`crate::LiveEntries`]).
    #[inline]
    pub fn len(&self) -> u32 {
        self.entries.map_or(0, |entries| entries.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn get(&self, index: u32) -> Result<Struct<'a>, Error> {
        match &self.entries {
            Some(entries) => entries.get(index),
            None => Err(Error::OutOfRange),
        }
    }

    /// The name of entry `index`; only its length is checked.
    #[inline]
    fn name(&self, index: u32) -> Result<&'a [u8], Error> {
        self.get(index)?.data(NAME, limits::MAX_NAME_BYTES)
    }

    /// Entry `index`.
    #[inline]
    pub fn entry(&self, index: u32) -> Result<DirEntry<'a>, Error> {
        let mut this = *self;
        this.walk(index)
    }

    /// Entry `index`, near to which others will be asked for.
    #[inline]
    pub(crate) fn walk(&mut self, index: u32) -> Result<DirEntry<'a>, Error> {
        let entries = self.entries.as_mut().ok_or(Error::OutOfRange)?;
        let entry = entries.walk(index)?;
        let name = entry.data(NAME, limits::MAX_NAME_BYTES)?;
        DirEntry::new(entry.u64(INO), name)
    }

    /// Whether it says that its entries are sorted. If they are not, some are not found.
    #[inline]
    pub fn says_sorted(&self) -> bool {
        self.says_sorted
    }

    /// Whether the names are in strictly ascending order of their bytes, so that
    /// they can be searched by bisection. Looks at every entry.
    pub fn is_sorted(&self) -> Result<bool, Error> {
        self.is_sorted_in(0..self.len())
    }

    /// Whether that holds for these entries, and for the first of them after the one before.
    pub fn is_sorted_in(&self, range: Range<u32>) -> Result<bool, Error> {
        let mut next = range.start;
        while next < range.end {
            let Some(checked) = self.scope(|dir| dir.sorted_up_to(next..range.end))? else {
                return Ok(false);
            };
            next = checked;
        }
        Ok(true)
    }

    /// The first of these entries that was not looked at, in one scope; `None` if one is not
    /// behind the one before.
    fn sorted_up_to(&self, range: Range<u32>) -> Result<Option<u32>, Error> {
        let mut last: &[u8] = match range.start.checked_sub(1) {
            Some(before) => self.name(before)?,
            None => b"",
        };
        for index in range.clone() {
            if index > range.start && self.is_full() {
                return Ok(Some(index));
            }
            let name = self.name(index)?;
            if compare(name, last).is_le() {
                return Ok(None);
            }
            last = name;
        }
        Ok(Some(range.end))
    }

    /// The inode number of `name`. `sorted` is what [`Self::is_sorted`] said; if it
    /// is false, looks at every entry up to the first of that name.
    ///
    /// That inode may be removed: see [`crate::Rootfs::lookup`].
    pub fn find(&self, name: &[u8], sorted: bool) -> Result<Option<u64>, Error> {
        let found = match sorted {
            true => self.bisect(name, 0)?,
            false => self.search(name, 0..self.len())?,
        };
        Ok(found.map(|(_, ino)| ino))
    }

    /// The index of the first of these `entries` that is `name`, and its inode number.
    pub(crate) fn search(
        &self,
        name: &[u8],
        entries: Range<u32>,
    ) -> Result<Option<(u32, u64)>, Error> {
        let mut next = entries.start;
        while next < entries.end {
            let (index, ino) = self.scope(|dir| dir.search_up_to(name, next..entries.end))?;
            if let Some(ino) = ino {
                return Ok(Some((index, ino)));
            }
            next = index;
        }
        Ok(None)
    }

    /// [`Self::search`] in one scope: where it ended, and the inode number if it has found.
    fn search_up_to(&self, name: &[u8], entries: Range<u32>) -> Result<(u32, Option<u64>), Error> {
        for index in entries.clone() {
            if index > entries.start && self.is_full() {
                return Ok((index, None));
            }
            if self.name(index)? == name {
                return Ok((index, Some(self.entry(index)?.ino)));
            }
        }
        Ok((entries.end, None))
    }

    /// The index of the entry `name` of a sorted directory, and its inode number. Looks at
    /// the entry `near` first.
    #[inline]
    pub(crate) fn bisect(&self, name: &[u8], near: u32) -> Result<Option<(u32, u64)>, Error> {
        let mut range = 0..self.len();
        let mut middle = near;
        if middle >= range.end {
            middle = u32::midpoint(range.start, range.end);
        }
        let mut found = self.bisect_step(name, &mut range, &mut middle)?;
        while found.is_none() && range.start < range.end {
            found = self.scope(|dir| dir.bisect_step(name, &mut range, &mut middle))?;
        }
        Ok(found)
    }

    /// Goes on with [`Self::bisect`] in `range`, with `middle`, until that is empty or the scope is
    /// full.
    #[inline]
    fn bisect_step(
        &self,
        name: &[u8],
        range: &mut Range<u32>,
        middle: &mut u32,
    ) -> Result<Option<(u32, u64)>, Error> {
        let first = *middle;
        while range.start < range.end {
            if *middle != first && self.is_full() {
                break;
            }
            let entry = self.get(*middle)?;
            match compare(entry.data(NAME, limits::MAX_NAME_BYTES)?, name) {
                Ordering::Equal => {
                    let entry = DirEntry::new(entry.u64(INO), name)?;
                    return Ok(Some((*middle, entry.ino)));
                }
                Ordering::Less => range.start = middle.saturating_add(1),
                Ordering::Greater => range.end = *middle,
            }
            *middle = u32::midpoint(range.start, range.end);
        }
        Ok(None)
    }

    /// Calls `function` with this directory, in a scope of its own.
    fn scope<R>(&self, mut function: impl FnMut(Dir<'_>) -> Result<R, Error>) -> Result<R, Error> {
        let says_sorted = self.says_sorted;
        let entries = self.entries.as_ref().ok_or(Error::OutOfRange)?;
        entries.scope(|entries| {
            function(Dir {
                entries: Some(entries),
                says_sorted,
            })
        })
    }

    /// Whether a loop over its entries should go on in another scope.
    #[inline]
    fn is_full(&self) -> bool {
        self.entries.is_some_and(|entries| entries.is_full())
    }
}
