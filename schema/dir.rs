// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Directories.

use crate::capnp::{List, ListPlace, Struct};
use crate::entry::{DirEntry, Found, Raw};
use crate::source::{Bytes, Source};
use crate::{limits, Error, Listing};
use core::{cmp::Ordering, ops::Range};

// Dir: pointers.
const ENTRIES: u16 = 0;
// Dir: bytes of data.
const FLAGS: usize = 0;
const SORTED: u16 = 2;

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

impl DirPlace {
    /// As of [`Dir::len`].
    #[inline]
    pub fn len(&self) -> u32 {
        self.entries.as_ref().map_or(0, ListPlace::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The directory. That other bytes are given than those that it was found in is an error on
    /// use.
    #[inline]
    pub fn in_memory<'a>(&self, bytes: &'a [u8]) -> Dir<'a> {
        Dir::at(self, Bytes::in_memory(bytes))
    }

    /// The same, of a message that is not in memory.
    #[inline]
    pub fn in_source<'a>(&self, source: &'a dyn Source) -> Dir<'a> {
        Dir::at(self, Bytes::in_source(source))
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

    /// Entry `index`, near to which others will be asked for.
    #[inline]
    fn raw(&mut self, index: u32) -> Result<Raw<'a>, Error> {
        match &mut self.entries {
            Some(entries) => Raw::walk(entries, index),
            None => Err(Error::OutOfRange),
        }
    }

    #[inline]
    pub(crate) fn list(&self) -> Option<&List<'a>> {
        self.entries.as_ref()
    }

    /// Its entries from `index` on, one after another.
    #[inline]
    pub fn listing(&self, index: u32) -> Listing<'a> {
        Listing::new(self, index)
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
        DirEntry::new(self.raw(index)?)
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
        let mut this = *self;
        let mut last: &[u8] = match range.start.checked_sub(1) {
            Some(before) => this.raw(before)?.name,
            None => b"",
        };
        for index in range.clone() {
            if index > range.start && this.is_full() {
                return Ok(Some(index));
            }
            let name = this.raw(index)?.name;
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
        Ok(found.map(|found| found.ino))
    }

    /// The first of these `entries` that is `name`.
    pub(crate) fn search(&self, name: &[u8], entries: Range<u32>) -> Result<Option<Found>, Error> {
        let mut next = entries.start;
        while next < entries.end {
            let (index, found) = self.scope(|dir| dir.search_up_to(name, next..entries.end))?;
            if found.is_some() {
                return Ok(found);
            }
            next = index;
        }
        Ok(None)
    }

    /// [`Self::search`] in one scope: where it ended, and what it has found.
    fn search_up_to(
        &self,
        name: &[u8],
        entries: Range<u32>,
    ) -> Result<(u32, Option<Found>), Error> {
        let mut this = *self;
        for index in entries.clone() {
            if index > entries.start && this.is_full() {
                return Ok((index, None));
            }
            let entry = this.raw(index)?;
            if entry.name == name {
                return Ok((index, Some(DirEntry::new(entry)?.found(index))));
            }
        }
        Ok((entries.end, None))
    }

    /// The entry `name` of a sorted directory. Looks at the entry `near` first.
    #[inline]
    pub(crate) fn bisect(&self, name: &[u8], near: u32) -> Result<Option<Found>, Error> {
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
    ) -> Result<Option<Found>, Error> {
        let first = *middle;
        let mut this = *self;
        while range.start < range.end {
            if *middle != first && this.is_full() {
                break;
            }
            let entry = this.raw(*middle)?;
            match compare(entry.name, name) {
                Ordering::Equal => return Ok(Some(DirEntry::new(entry)?.found(*middle))),
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
