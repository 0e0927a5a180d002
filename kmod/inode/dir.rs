// SPDX-License-Identifier: GPL-2.0

//! Directories.

use super::data::Node;
use crate::{metadata::Reader, report::Failure};
use core::ops::Range;
use kernel::prelude::*;
use puzzlefs_format::{self as format, limits, Dir, DirPlace, FileType, Kind, Rootfs};
use vfs::{DirEmitter, DirEntryType};

/// Entries of a directory that are looked at before the task looks whether it was killed.
const BATCH: u32 = 256;

/// The same of entries that are listed.
const ENTRIES_PER_LOOK: u64 = 16;

/// Where the entries of `dir` are.
#[inline]
fn place(reader: &Reader<'_>, dir: &Node<'_>) -> Result<DirPlace, Failure> {
    dir.data.entries(|| find(reader, dir.ino))
}

#[inline(never)]
fn find(reader: &Reader<'_>, ino: u64) -> Result<DirPlace, Failure> {
    match reader.inode(ino)?.kind()? {
        Kind::Dir(entries) => Ok(entries.place()),
        _ => Err(format::Error::BadMode.into()),
    }
}

/// Looks up a name in `dir`, and calls `take` with the inode that it stands for.
///
/// # Errors
///
/// `EUCLEAN` when the metadata is not sound, `EIO` when it cannot be read, `ENOMEM`, `EINTR`
/// when the one who asks was killed, `EFBIG` for an unsorted directory that takes too long, and
/// those of `take`.
pub(crate) fn lookup<R>(
    dir: &Node<'_>,
    name: &[u8],
    take: impl FnOnce(format::Inode<'_>) -> Result<R>,
) -> Result<Option<R>, Failure> {
    let reader = Reader::new(dir.access);
    let place = place(&reader, dir)?;
    let rootfs = reader.rootfs()?;
    let entries = rootfs.dir(&place);
    let len = entries.len();
    if !entries.says_sorted() && !dir.data.is_sorted(|| is_sorted(dir, len))? {
        return lookup_unsorted(dir, name, len, take);
    }
    let found = rootfs.lookup_sorted(&entries, name, dir.data.next())?;
    let Some((index, inode)) = found else {
        return Ok(None);
    };
    dir.data.found(index);
    Ok(Some(take(inode)?))
}

/// Calls `look` with the entries of `dir`, some at a time, until it says something: a directory
/// may have millions.
fn in_batches<T>(
    dir: &Node<'_>,
    len: u32,
    mut look: impl FnMut(&Rootfs<'_>, &Dir<'_>, Range<u32>) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let mut start = 0;
    while start < len {
        if vfs::killed() {
            return Err(EINTR.into());
        }
        let end = start.saturating_add(BATCH).min(len);
        let reader = Reader::new(dir.access);
        let place = place(&reader, dir)?;
        let rootfs = reader.rootfs()?;
        let found = look(&rootfs, &rootfs.dir(&place), start..end)?;
        if found.is_some() {
            return Ok(found);
        }
        start = end;
    }
    Ok(None)
}

// Rare, and with readers of its own: not in the frame of every lookup.
#[inline(never)]
fn lookup_unsorted<R>(
    dir: &Node<'_>,
    name: &[u8],
    len: u32,
    take: impl FnOnce(format::Inode<'_>) -> Result<R>,
) -> Result<Option<R>, Failure> {
    // Others who look up the same name wait for us, and cannot be killed meanwhile.
    if len > limits::MAX_UNSORTED_ENTRIES {
        return Err(EFBIG.into());
    }
    let (mut take, mut removed) = (Some(take), 0);
    in_batches(dir, len, |rootfs, entries, range| {
        let found = rootfs.lookup_in(entries, name, range, &mut removed)?;
        if removed > limits::MAX_REMOVED_ENTRIES {
            return Err(EFBIG.into());
        }
        let found = found.and_then(|found| take.take().map(|take| take(found)));
        Ok(found.transpose()?)
    })
}

#[inline(never)]
fn is_sorted(dir: &Node<'_>, len: u32) -> Result<bool, Failure> {
    let unsorted = in_batches(dir, len, |_, entries, range| {
        let sorted = entries.is_sorted_in(range)?;
        Ok((!sorted).then_some(()))
    })?;
    Ok(unsorted.is_none())
}

/// Emits the entries of `dir`. The position of an entry is its place in the metadata
/// behind `.` and `..`, so it is the same for ever.
///
/// # Errors
///
/// As [`lookup`].
pub(crate) fn iterate(dir: &Node<'_>, emitter: &mut DirEmitter<'_>) -> Result<(), Failure> {
    while emit_batch(dir, emitter)? {}
    Ok(())
}

/// Emits the next entries, as many as one reader can. False when there are no more, or the
/// emitter is full.
fn emit_batch(dir: &Node<'_>, emitter: &mut DirEmitter<'_>) -> Result<bool, Failure> {
    let mut position = emitter.position();
    let first = position.saturating_sub(DirEmitter::FIRST);
    // Whoever has read all asks once more.
    let Some(first) = u32::try_from(first)
        .ok()
        .filter(|first| dir.data.known_entries().is_none_or(|len| *first < len))
    else {
        return Ok(false);
    };
    let reader = Reader::new(dir.access);
    let mut listing = reader.dir(&place(&reader, dir)?).listing(first);
    while !reader.is_full() {
        // A hostile directory may be long and hold nothing but what is removed, and to find that
        // out may take a search in each of many layers.
        if position.checked_rem(ENTRIES_PER_LOOK) == Some(0) && vfs::killed() {
            return Err(EINTR.into());
        }
        let Some(entry) = listing.next_entry()? else {
            return Ok(false);
        };
        let file_type = match entry.file_type {
            Some(file_type) => Some(file_type),
            None => file_type(&reader, entry.ino)?,
        };
        position = position.saturating_add(1);
        match file_type {
            Some(file_type) => {
                if !emitter.emit(entry.name, entry.ino, dir_entry_type(file_type)) {
                    return Ok(false);
                }
            }
            // Removed by a later layer.
            None => emitter.skip_to(position),
        }
    }
    Ok(true)
}

/// What inode `ino` is; none if a later layer has removed it.
#[inline(never)]
fn file_type(reader: &Reader<'_>, ino: u64) -> Result<Option<FileType>, Failure> {
    let inode = reader.rootfs()?.inode(ino)?;
    Ok(inode.map(|inode| inode.file_type()))
}

/// The type that `readdir(3)` shows for an inode.
fn dir_entry_type(file_type: FileType) -> DirEntryType {
    match file_type {
        FileType::Fifo => DirEntryType::Fifo,
        FileType::Chr => DirEntryType::CharDevice,
        FileType::Dir => DirEntryType::Directory,
        FileType::Blk => DirEntryType::BlockDevice,
        FileType::File => DirEntryType::Regular,
        FileType::Symlink => DirEntryType::Symlink,
        FileType::Sock => DirEntryType::Socket,
    }
}
