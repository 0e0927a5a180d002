// SPDX-License-Identifier: Apache-2.0
//! Writing inodes, and what belongs to them.

use std::io::Write;

use anyhow::Result;
use puzzlefs_format::{Digest, VERSION_BLOCKS};

use super::record::{Entries, Extents, Member, Record};
use super::segment::{bytes, Segment};
use super::sizes::{digest_at, ADDITIONAL, BLOB_REF, DEVICE, DIR, DIR_ENTRY, FILE_CHUNK, XATTR};

/// The mode of what is no inode but hides that of a lower layer.
const WHITEOUT: u16 = 8;

pub(super) type Out<'a> = Segment<&'a mut dyn Write>;

/// Words of what an inode's first pointer leads to.
pub(super) fn member_words(member: &Member<'_>) -> Result<u64> {
    Ok(match member {
        Member::Dir(entries) if entries.len() == 0 => 0,
        Member::Dir(entries) => {
            let names = entries.iter().map(|entry| Ok(bytes(entry?.name.len())));
            DIR.words() + DIR_ENTRY.list(entries.len()) + names.sum::<Result<u64>>()?
        }
        Member::File(extents, _) => {
            let blobs = extents
                .iter()
                .map(|extent| Ok(u64::from(extent?.1.is_some())));
            FILE_CHUNK.list(extents.len()) + BLOB_REF.words() * blobs.sum::<Result<u64>>()?
        }
        Member::Chr(..) | Member::Blk(..) => DEVICE.words(),
        Member::Fifo | Member::Sock | Member::Symlink(_) | Member::Whiteout => 0,
    })
}

/// Words of an InodeAdditional with all that belongs to it.
pub(super) fn additional_words(record: &Record<'_>) -> Result<u64> {
    let target = target(record);
    if target.is_empty() && record.xattrs.len() == 0 {
        return Ok(0);
    }
    let strings = record.xattrs.iter().map(|xattr| {
        let (name, value) = xattr?;
        Ok(bytes(name.len()) + bytes(value.len()))
    });
    let strings: u64 = strings.sum::<Result<u64>>()?;
    Ok(ADDITIONAL.words() + XATTR.list(record.xattrs.len()) + strings + bytes(target.len()))
}

fn target<'a>(record: &Record<'a>) -> &'a [u8] {
    match record.member {
        Member::Symlink(target) => target,
        _ => &[],
    }
}

/// Writes the data of an Inode, in front of its pointers.
pub(super) fn write_data(out: &mut Out<'_>, record: &Record<'_>, version: u64) -> Result<()> {
    let mode = record.member.file_type().map_or(WHITEOUT, |t| t.number());
    let size = match &record.member {
        Member::Dir(entries) => entries.len() as u64,
        Member::File(_, size) => *size,
        _ => 0,
    };
    out.word(record.ino)?;
    let sparse = match &record.member {
        Member::File(extents, _) if version >= VERSION_BLOCKS => extents.have_holes()?,
        _ => false,
    };
    let permissions = record.permissions | (u16::from(sparse) << 15);
    out.word(u64::from(mode) | (u64::from(permissions) << 16) | (u64::from(record.uid) << 32))?;
    out.word(u64::from(record.gid) | (u64::from(record.mtime_nsec) << 32))?;
    out.word(u64::from_le_bytes(record.mtime.to_le_bytes()))?;
    out.word(u64::from(record.nlink) | (u64::from(record.parent) << 32))?;
    Ok(out.word(size)?)
}

/// Writes an Inode; what belongs to it begins at the word `at`.
pub(super) fn write_inode(
    out: &mut Out<'_>,
    record: &Record<'_>,
    at: u64,
    version: u64,
) -> Result<()> {
    write_data(out, record, version)?;
    match &record.member {
        Member::Dir(entries) if entries.len() > 0 => out.pointer(at, DIR)?,
        Member::File(extents, _) => out.list_pointer(at, FILE_CHUNK, extents.len())?,
        Member::Chr(..) | Member::Blk(..) => out.pointer(at, DEVICE)?,
        _ => out.null()?,
    }
    let additional = at + member_words(&record.member)?;
    match additional_words(record)? {
        0 => out.null()?,
        _ => out.pointer(additional, ADDITIONAL)?,
    }
    Ok(())
}

pub(super) fn write_member(out: &mut Out<'_>, member: &Member<'_>) -> Result<()> {
    match member {
        Member::Dir(entries) if entries.len() > 0 => write_dir(out, entries),
        Member::File(extents, _) => write_extents(out, extents),
        Member::Chr(major, minor) | Member::Blk(major, minor) => {
            out.word((*major).into())?;
            Ok(out.word((*minor).into())?)
        }
        _ => Ok(()),
    }
}

fn write_dir(out: &mut Out<'_>, entries: &Entries<'_>) -> Result<()> {
    // lookBelow, which no reader uses, and sorted.
    out.word(if entries.are_sorted()? { 2 } else { 0 })?;
    out.list_pointer(out.at() + 1, DIR_ENTRY, entries.len())?;
    let mut names = out.at() + DIR_ENTRY.list(entries.len());
    out.tag(DIR_ENTRY, entries.len())?;
    for entry in entries.iter() {
        let entry = entry?;
        out.word(entry.ino)?;
        out.word(entry.file_type.map_or(0, |t| t.number()).into())?;
        out.bytes_pointer(names, entry.name.len())?;
        names += bytes(entry.name.len());
    }
    entries
        .iter()
        .try_for_each(|entry| Ok(out.bytes(entry?.name)?))
}

fn write_extents(out: &mut Out<'_>, extents: &Extents<'_>) -> Result<()> {
    let mut blobs = out.at() + FILE_CHUNK.list(extents.len());
    out.tag(FILE_CHUNK, extents.len())?;
    for extent in extents.iter() {
        let (len, chunk) = extent?;
        out.word(len)?;
        match chunk {
            Some(_) => out.pointer(blobs, BLOB_REF)?,
            None => out.null()?,
        }
        blobs += chunk.map_or(0, |_| BLOB_REF.words());
    }
    for extent in extents.iter() {
        if let Some(chunk) = extent?.1 {
            out.word(chunk.offset)?;
            out.word(chunk.compressed.into())?;
            out.bytes_pointer(digest_at(chunk.digest.into()), Digest::BYTES)?;
        }
    }
    Ok(())
}

pub(super) fn write_additional(out: &mut Out<'_>, record: &Record<'_>) -> Result<()> {
    let target = target(record);
    let xattrs = &record.xattrs;
    if additional_words(record)? == 0 {
        return Ok(());
    }
    let list = out.at() + ADDITIONAL.words();
    let mut strings = list + XATTR.list(xattrs.len());
    let end = out.at() + additional_words(record)?;
    out.list_pointer(list, XATTR, xattrs.len())?;
    out.bytes_pointer(end - bytes(target.len()), target.len())?;
    out.tag(XATTR, xattrs.len())?;
    for xattr in xattrs.iter() {
        let (name, value) = xattr?;
        for string in [name, value] {
            out.bytes_pointer(strings, string.len())?;
            strings += bytes(string.len());
        }
    }
    for xattr in xattrs.iter() {
        let (name, value) = xattr?;
        out.bytes(name)?;
        out.bytes(value)?;
    }
    Ok(out.bytes(target)?)
}
