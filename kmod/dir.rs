// SPDX-License-Identifier: GPL-2.0

//! Directories.

use crate::{
    error::errno,
    image::Image,
    inode::{self, dir_entry_type},
};
use kernel::prelude::*;
use puzzlefs_format::{Dir, Kind};
use vfs::{DirEmitter, Inode, InodeRef};

fn entries<'a>(image: &'a Image, dir: &Inode<Image>) -> Result<Dir<'a>> {
    match image.inode(dir.ino())?.kind().map_err(errno)? {
        Kind::Dir(entries) => Ok(entries),
        _ => Err(EUCLEAN),
    }
}

/// Looks up a name in `dir`.
///
/// # Errors
///
/// `EUCLEAN` when the metadata is not sound, `ENOMEM`.
pub(crate) fn lookup<'a>(
    dir: &'a Inode<Image>,
    name: &[u8],
) -> Result<Option<InodeRef<'a, Image>>> {
    let sb = dir.super_block();
    let image = sb.data();
    let entries = entries(image, dir)?;
    let sorted = dir.data().is_sorted(&entries)?;
    let found = image.rootfs().lookup(&entries, name, sorted);
    found
        .map_err(errno)?
        .map(|found| inode::get(sb, found))
        .transpose()
}

/// Emits the entries of `dir`. The position of an entry is its place in the metadata
/// behind `.` and `..`, so it is the same for ever.
///
/// # Errors
///
/// `EUCLEAN` when the metadata is not sound, `EINTR` when the reader was killed.
pub(crate) fn iterate(dir: &Inode<Image>, emitter: &mut DirEmitter<'_>) -> Result {
    let image = dir.super_block().data();
    let entries = entries(image, dir)?;
    loop {
        let position = emitter.position();
        let index = match u32::try_from(position.saturating_sub(DirEmitter::FIRST)) {
            Ok(index) if index < entries.len() => index,
            _ => return Ok(()),
        };
        match image.rootfs().live_entry(&entries, index).map_err(errno)? {
            Some((entry, inode)) => {
                let kind = dir_entry_type(inode.file_type());
                if !emitter.emit(entry.name, entry.ino, kind) {
                    return Ok(());
                }
            }
            // Removed by a later layer. A hostile directory may be long and hold nothing else.
            None if vfs::killed() => return Err(EINTR),
            None => emitter.skip_to(position.saturating_add(1)),
        }
    }
}
