// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Directories.

use crate::capnp::{List, ListPlace, Struct};
use crate::source::Bytes;
use crate::{limits, Error, FileType, Inode};
use core::{cmp::Ordering, ops::Range};

// Dir: pointers.
const ENTRIES: u16 = 0;
// Dir: bytes of data.
const FLAGS: usize = 0;
const SORTED: u16 = 2;

// DirEntry: bytes of data, pointers.
const INO: usize = 0;
const TYPE: usize = 8;
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
}

/// A name in a directory, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode's number; never 0.
    pub ino: u64,
    /// 1 to 255 bytes without NUL and `/`; neither `.` nor `..`.
    pub name: &'a [u8],
    /// What the inode is, if that is recorded.
    pub file_type: Option<FileType>,
}

/// An entry of a directory that was looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) index: u32,
    pub(crate) ino: u64,
    file_type: Option<FileType>,
}

impl Found {
    /// `inode`, which is what has its number, if it is of the type that the entry says.
    #[inline]
    pub(crate) fn check<'a>(&self, inode: Option<Inode<'a>>) -> Result<Option<Inode<'a>>, Error> {
        check(self.file_type, inode)
    }
}

/// `inode`, which an entry with `file_type` stands for.
#[inline]
pub(crate) fn check(
    file_type: Option<FileType>,
    inode: Option<Inode<'_>>,
) -> Result<Option<Inode<'_>>, Error> {
    if file_type.is_some() && file_type != inode.map(|inode| inode.file_type()) {
        return Err(Error::BadEntryType);
    }
    Ok(inode)
}

/// What an entry says; of its name only the length is checked.
#[derive(Clone, Copy)]
struct Raw<'a> {
    ino: u64,
    name: &'a [u8],
    file_type: u8,
}

impl<'a> Raw<'a> {
    #[inline]
    fn walk(entries: &mut List<'a>, index: u32) -> Result<Self, Error> {
        if let Some(entry) = entries.near(index)? {
            if let Some(name) = entry.data(NAME, limits::MAX_NAME_BYTES) {
                return Ok(Self {
                    ino: entry.u64(INO),
                    name,
                    file_type: entry.u8(TYPE),
                });
            }
        }
        Self::walk_far(entries, index)
    }

    /// The same wherever in the message it is, and its name.
    #[inline(never)]
    fn walk_far(entries: &mut List<'a>, index: u32) -> Result<Self, Error> {
        let entry = entries.walk(index)?;
        Ok(Self {
            ino: entry.u64(INO),
            name: entry.data(NAME, limits::MAX_NAME_BYTES)?,
            file_type: entry.u8(TYPE),
        })
    }
}

/// Whether a name has a byte that names cannot have.
#[inline]
fn has_nul_or_slash(name: &[u8]) -> bool {
    // Eight at a time: a listing looks at all names.
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    let has_nul = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7) != 0;
    let is_bad = |bytes: &[u8; 8]| {
        let word = u64::from_ne_bytes(*bytes);
        has_nul(word) || has_nul(word ^ SLASHES)
    };
    match name.last_chunk() {
        // The last eight may be in the others, too.
        Some(last) => {
            let mut words = name.chunks_exact(8);
            is_bad(last) || words.any(|word| word.first_chunk().is_some_and(is_bad))
        }
        None => name.iter().any(|byte| matches!(byte, 0 | b'/')),
    }
}

impl<'a> DirEntry<'a> {
    #[inline]
    fn new(raw: Raw<'a>) -> Result<Self, Error> {
        let Raw {
            ino,
            name,
            file_type,
        } = raw;
        if ino == 0 || matches!(name, b"" | b"." | b"..") || has_nul_or_slash(name) {
            return Err(Error::BadDirEntry);
        }
        let file_type = match file_type {
            0 => None,
            number => Some(FileType::of(number.into()).ok_or(Error::BadEntryType)?),
        };
        Ok(Self {
            ino,
            name,
            file_type,
        })
    }

    fn found(&self, index: u32) -> Found {
        Found {
            index,
            ino: self.ino,
            file_type: self.file_type,
        }
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
