// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Entries of directories.

use crate::capnp::{List, Near};
use crate::{limits, Error, FileType, Inode};

// DirEntry: bytes of data, pointers.
const INO: usize = 0;
const TYPE: usize = 8;
const NAME: u16 = 0;

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
pub(crate) struct Raw<'a> {
    ino: u64,
    pub(crate) name: &'a [u8],
    file_type: u8,
}

impl<'a> Raw<'a> {
    #[inline]
    pub(crate) fn walk(entries: &mut List<'a>, index: u32) -> Result<Self, Error> {
        match entries.near(index)?.and_then(Self::near) {
            Some(entry) => Ok(entry),
            None => Self::walk_far(entries, index),
        }
    }

    /// What `entry` says, if its name is in the same part of the message.
    #[inline]
    pub(crate) fn near(entry: Near<'_, 'a>) -> Option<Self> {
        Some(Self {
            ino: entry.u64(INO),
            name: entry.data(NAME, limits::MAX_NAME_BYTES)?,
            file_type: entry.u8(TYPE),
        })
    }

    /// The same wherever in the message it is, and its name.
    #[inline(never)]
    pub(crate) fn walk_far(entries: &mut List<'a>, index: u32) -> Result<Self, Error> {
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
    pub(crate) fn new(raw: Raw<'a>) -> Result<Self, Error> {
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

    pub(crate) fn found(&self, index: u32) -> Found {
        Found {
            index,
            ino: self.ino,
            file_type: self.file_type,
        }
    }
}
