// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! Valid metadata of any shape, written by the `capnp` crate, put into other segments and behind
//! other pointers: both readers read all of it, and alike. Then the same, damaged: what we
//! accept the other reads, too.

use arbitrary::{Result, Unstructured};
use format_tests::agree::{agree, Expect};
use format_tests::model::{Chunk, Inode, Mode, Rootfs};
use format_tests::relocate::relocate;
use libfuzzer_sys::fuzz_target;
use puzzlefs_format::{limits, FileType};

fn bytes(u: &mut Unstructured<'_>, max: usize) -> Result<Vec<u8>> {
    let len = u.int_in_range(1..=max)?;
    let bytes = u.bytes(len.min(u.len()).max(1))?;
    Ok(bytes.iter().map(|byte| (*byte).max(1)).collect())
}

/// A name, of which there is no other with this `index`.
fn name(u: &mut Unstructured<'_>, index: usize) -> Result<Vec<u8>> {
    let mut name = bytes(u, 20)?;
    for byte in &mut name {
        *byte = if *byte == b'/' { b'_' } else { *byte };
    }
    name.extend(format!("-{index}").into_bytes());
    Ok(name)
}

fn chunk(u: &mut Unstructured<'_>, holes: bool) -> Result<Chunk> {
    if holes && u.ratio(1, 5)? {
        let len = u.int_in_range(1..=1 << 40)?;
        return Ok(Chunk { blob: None, len });
    }
    let offset = u.int_in_range(0..=limits::MAX_CHUNK_BYTES - 1)?;
    Ok(Chunk {
        blob: Some((u.arbitrary()?, offset, u.arbitrary()?)),
        len: u.int_in_range(1..=limits::MAX_CHUNK_BYTES - offset)?,
    })
}

fn list<T>(
    u: &mut Unstructured<'_>,
    max: usize,
    mut one: impl FnMut(&mut Unstructured<'_>, usize) -> Result<T>,
) -> Result<Vec<T>> {
    let len = u.int_in_range(0..=max)?;
    (0..len).map(|index| one(u, index)).collect()
}

fn file_type(u: &mut Unstructured<'_>) -> Result<Option<FileType>> {
    Ok(Some(match u.int_in_range(0..=7)? {
        0 => FileType::Fifo,
        1 => FileType::Chr,
        2 => FileType::Dir,
        3 => FileType::Blk,
        4 => FileType::File,
        5 => FileType::Symlink,
        6 => FileType::Sock,
        _ => return Ok(None),
    }))
}

fn mode(u: &mut Unstructured<'_>, holes: bool) -> Result<Mode> {
    let mut device = || -> Result<(u32, u32)> {
        let major = u.int_in_range(0..=limits::MAX_MAJOR)?;
        Ok((major, u.int_in_range(0..=limits::MAX_MINOR)?))
    };
    let (major, minor) = device()?;
    Ok(match u.int_in_range(0..=11)? {
        0 => Mode::Fifo,
        1 => Mode::Sock,
        2 => Mode::Wht,
        3 => Mode::Chr(major, minor),
        4 => Mode::Blk(major, minor),
        5 => Mode::Lnk(bytes(u, 60)?),
        6..=8 => {
            let entry = |u: &mut Unstructured<'_>, index| {
                Ok((u.int_in_range(1..=40)?, name(u, index)?, file_type(u)?))
            };
            let mut entries: Vec<(u64, Vec<u8>, Option<FileType>)> = list(u, 12, entry)?;
            if u.arbitrary()? {
                entries.sort_by(|a, b| a.1.cmp(&b.1));
            }
            Mode::Dir(entries)
        }
        _ => Mode::File(list(u, 6, |u, _| chunk(u, holes))?, u.arbitrary()?),
    })
}

fn vector(u: &mut Unstructured<'_>, holes: bool) -> Result<Vec<Inode>> {
    let has_gaps = u.ratio(1, 3)?;
    let mut ino: u64 = 0;
    list(u, 12, |u, _| {
        let gap = if has_gaps { u.int_in_range(0..=9)? } else { 0 };
        ino += 1 + gap;
        Ok(Inode {
            ino,
            mode: mode(u, holes)?,
            uid: u.int_in_range(0..=u32::MAX - 1)?,
            gid: u.int_in_range(0..=u32::MAX - 1)?,
            permissions: u.arbitrary()?,
            xattrs: list(u, 3, |u, _| Ok((bytes(u, 20)?, bytes(u, 40)?)))?,
            mtime: (u.arbitrary()?, u.int_in_range(0..=999_999_999)?),
            nlink: u.arbitrary()?,
            parent: u.arbitrary()?,
        })
    })
}

fn rootfs(u: &mut Unstructured<'_>) -> Result<Rootfs> {
    let version = u.int_in_range(3..=4)?;
    Ok(Rootfs {
        version,
        vectors: list(u, 4, |u, _| vector(u, version == 4))?,
        verity: list(u, 3, |u, _| u.arbitrary())?,
        inode_count: u.arbitrary()?,
        data_size: u.arbitrary()?,
    })
}

/// Damage to a word.
fn damage(u: &mut Unstructured<'_>, message: &mut [u8]) -> Result<()> {
    let words = message.len() / 8;
    for _ in 0..u.int_in_range(1..=4)? {
        let at = u.int_in_range(1..=words - 1)? * 8;
        match u.int_in_range(0..=2)? {
            0 => message[at + u.int_in_range(0..=7)?] ^= u.int_in_range(1..=255u8)?,
            1 => message[at..at + 8].copy_from_slice(&u.arbitrary::<u64>()?.to_le_bytes()),
            _ => {
                let from = u.int_in_range(1..=words - 1)? * 8;
                message.copy_within(from..from + 8, at);
            }
        }
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let mut run = || -> Result<()> {
        let (segments, seed) = (u.int_in_range(1..=6)?, u.arbitrary()?);
        let segment_words = u.int_in_range(1..=99)?;
        let rootfs = rootfs(&mut u)?;
        agree(&rootfs.write(segment_words), Expect::Valid);
        let mut message = relocate(&rootfs.write(1 << 16), segments, seed);
        agree(&message, Expect::Valid);
        damage(&mut u, &mut message)?;
        agree(&message, Expect::Anything);
        Ok(())
    };
    let _ = run();
});
