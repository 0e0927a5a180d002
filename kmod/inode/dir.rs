// SPDX-License-Identifier: GPL-2.0

//! Directories.

use super::data::Node;
use crate::{metadata::Reader, report::Failure};
use core::ops::Range;
use kernel::prelude::*;
use puzzlefs_format::{self as format, limits, Dir, FileType, Kind, Rootfs};
use vfs::{DirEmitter, DirEntryType};

/// Entries of a directory that are looked at before the task looks whether it was killed.
const BATCH: u32 = 256;

/// The same of entries that are listed.
const ENTRIES_PER_LOOK: u64 = 16;

fn entries<'a>(rootfs: &Rootfs<'a>, dir: &Node<'_>) -> Result<Dir<'a>, Failure> {
    let place = dir.data.entries(|| {
        let inode = rootfs.inode(dir.ino)?;
        match inode.ok_or(format::Error::BadDirEntry)?.kind()? {
            Kind::Dir(entries) => Ok(entries.place()),
            _ => Err(format::Error::BadMode),
        }
    })?;
    Ok(rootfs.dir(&place))
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
    let rootfs = reader.rootfs()?;
    let entries = entries(&rootfs, dir)?;
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
        let rootfs = reader.rootfs()?;
        let found = look(&rootfs, &entries(&rootfs, dir)?, start..end)?;
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
    let first = emitter.position().saturating_sub(DirEmitter::FIRST);
    // Whoever has read all asks once more.
    if dir.data.known_entries().is_some_and(|len| first >= len.into()) {
        return Ok(false);
    }
    let reader = Reader::new(dir.access);
    let rootfs = reader.rootfs()?;
    let entries = entries(&rootfs, dir)?;
    let mut live = rootfs.live_entries(&entries);
    loop {
        let position = emitter.position();
        // A hostile directory may be long and hold nothing but what is removed, and to find that
        // out may take a search in each of many layers.
        if position.checked_rem(ENTRIES_PER_LOOK) == Some(0) && vfs::killed() {
            return Err(EINTR.into());
        }
        let index = match u32::try_from(position.saturating_sub(DirEmitter::FIRST)) {
            Ok(index) if index < entries.len() => index,
            _ => return Ok(false),
        };
        match live.list(index)? {
            Some((entry, file_type)) => {
                let kind = dir_entry_type(file_type);
                if !emitter.emit(entry.name, entry.ino, kind) {
                    return Ok(false);
                }
            }
            // Removed by a later layer.
            None => emitter.skip_to(position.saturating_add(1)),
        }
        if reader.is_full() {
            return Ok(true);
        }
    }
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
