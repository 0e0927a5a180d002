// SPDX-License-Identifier: GPL-2.0

//! Directories.

use crate::{
    error::Failure,
    image::Image,
    inode::{self, dir_entry_type},
    metadata::Reader,
};
use core::ops::Range;
use kernel::prelude::*;
use puzzlefs_format::{self as format, Dir, Kind, Rootfs};
use vfs::{DirEmitter, Inode, InodeRef};

/// Entries of a directory that are looked at before the task looks whether it was killed.
const BATCH: u32 = 256;

fn entries<'a>(rootfs: &Rootfs<'a>, dir: &Inode<Image>) -> Result<Dir<'a>, Failure> {
    let place = dir.data().entries(|| {
        let inode = rootfs.inode(dir.ino())?;
        match inode.ok_or(format::Error::BadDirEntry)?.kind()? {
            Kind::Dir(entries) => Ok(entries.place()),
            _ => Err(format::Error::BadMode),
        }
    })?;
    Ok(rootfs.dir(&place))
}

/// Looks up a name in `dir`.
///
/// # Errors
///
/// `EUCLEAN` when the metadata is not sound, `EIO` when it cannot be read, `ENOMEM`, `EINTR`
/// when the one who asks was killed.
pub(crate) fn lookup<'a>(
    dir: &'a Inode<Image>,
    name: &[u8],
) -> Result<Option<InodeRef<'a, Image>>, Failure> {
    let reader = Reader::new(dir.super_block());
    let rootfs = reader.rootfs()?;
    let entries = entries(&rootfs, dir)?;
    let len = entries.len();
    if !entries.says_sorted() && !dir.data().is_sorted(|| is_sorted(dir, len))? {
        return lookup_unsorted(dir, name, len);
    }
    let found = rootfs.lookup_sorted(&entries, name, dir.data().next())?;
    let Some((index, inode)) = found else {
        return Ok(None);
    };
    dir.data().found(index);
    Ok(Some(inode::get(dir.super_block(), inode)?))
}

/// Calls `look` with the entries of `dir`, some at a time, until it says something: a directory
/// may have millions.
fn in_batches<T>(
    dir: &Inode<Image>,
    len: u32,
    mut look: impl FnMut(&Rootfs<'_>, &Dir<'_>, Range<u32>) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let mut start = 0;
    while start < len {
        if vfs::killed() {
            return Err(EINTR.into());
        }
        let end = start.saturating_add(BATCH).min(len);
        let reader = Reader::new(dir.super_block());
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
fn lookup_unsorted<'a>(
    dir: &'a Inode<Image>,
    name: &[u8],
    len: u32,
) -> Result<Option<InodeRef<'a, Image>>, Failure> {
    in_batches(dir, len, |rootfs, entries, range| {
        let found = rootfs.lookup_in(entries, name, range)?;
        let found = found.map(|found| inode::get(dir.super_block(), found));
        Ok(found.transpose()?)
    })
}

#[inline(never)]
fn is_sorted(dir: &Inode<Image>, len: u32) -> Result<bool, Failure> {
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
pub(crate) fn iterate(dir: &Inode<Image>, emitter: &mut DirEmitter<'_>) -> Result<(), Failure> {
    while emit_batch(dir, emitter)? {}
    Ok(())
}

/// Emits the next entries, as many as one reader can. False when there are no more, or the
/// emitter is full.
fn emit_batch(dir: &Inode<Image>, emitter: &mut DirEmitter<'_>) -> Result<bool, Failure> {
    let reader = Reader::new(dir.super_block());
    let rootfs = reader.rootfs()?;
    let entries = entries(&rootfs, dir)?;
    let mut live = rootfs.live_entries(&entries);
    loop {
        // A hostile directory may be long and hold nothing but what is removed, and to find that
        // out may take a search in each of many layers.
        if vfs::killed() {
            return Err(EINTR.into());
        }
        let position = emitter.position();
        let index = match u32::try_from(position.saturating_sub(DirEmitter::FIRST)) {
            Ok(index) if index < entries.len() => index,
            _ => return Ok(false),
        };
        match live.get(index)? {
            Some((entry, inode)) => {
                let kind = dir_entry_type(inode.file_type());
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
