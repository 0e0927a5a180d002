// SPDX-License-Identifier: Apache-2.0
//! Listing names of an image.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use puzzlefs_format::{FileType, Inode, Kind};
use serde::Serialize;

use crate::base::digest::hex;
use crate::base::error::Error;
use crate::image::walk::{Step, Walk};
use crate::image::Image;

/// A name and its inode.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// Path from the root of the image; where it is not UTF-8, with replacement characters.
    pub path: String,
    /// The path's bytes.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// The path's bytes in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// Inode number.
    pub ino: u64,
    /// Type, as find(1)'s -type has it: f, d, l, c, b, p or s.
    #[serde(rename = "type")]
    pub kind: char,
    /// Permissions, 12 bits.
    pub mode: u16,
    /// Links; 0 where the image does not record them.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file or of a symlink's target.
    pub size: u64,
    /// Modification time: seconds since the epoch.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
    /// Device number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Where a symlink leads; where that is not UTF-8, with replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Its bytes.
    #[serde(skip)]
    pub target_bytes: Vec<u8>,
    /// Its bytes in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_hex: Option<String>,
}

/// Hands all entries of the directory `path` to `each`, those below too if
/// `recursive`; of something else only itself. `each` may fail for reasons of its own, which end it.
pub fn list<E: From<Error>>(
    image: &Image,
    path: &[u8],
    recursive: bool,
    mut each: impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let start = image.lookup(path)?;
    let base = Path::new("/").join(Path::new(std::ffi::OsStr::from_bytes(path)));
    let is_dir = start.file_type() == FileType::Dir;
    let mut walk = Walk::from(image, &base, start).map_err(Error::from)?;
    while let Some(step) = walk.next().map_err(Error::from)? {
        let Step::Enter(inode) = step else {
            continue;
        };
        let is_start = walk.place().is_none();
        if !is_start || !is_dir {
            let item = item(image, &walk.full_path(), &inode);
            each(item.with_context(|| walk.name()).map_err(Error::from)?)?;
        }
        if !is_start && !recursive {
            walk.skip();
        }
    }
    Ok(())
}

fn item(image: &Image, path: &Path, inode: &Inode<'_>) -> anyhow::Result<Item> {
    let bytes = path.as_os_str().as_bytes();
    let mtime = inode.mtime();
    let mut item = Item {
        path: String::from_utf8_lossy(bytes).into_owned(),
        bytes: bytes.to_vec(),
        path_hex: not_utf8(bytes),
        ino: inode.ino(),
        kind: match inode.file_type() {
            FileType::File => 'f',
            FileType::Dir => 'd',
            FileType::Symlink => 'l',
            FileType::Chr => 'c',
            FileType::Blk => 'b',
            FileType::Fifo => 'p',
            FileType::Sock => 's',
        },
        mode: inode.permissions(),
        nlink: inode.nlink().unwrap_or(0),
        uid: inode.uid(),
        gid: inode.gid(),
        size: 0,
        mtime: mtime.sec,
        mtime_nsec: mtime.nsec,
        device: None,
        target: None,
        target_bytes: Vec::new(),
        target_hex: None,
    };
    match inode.kind()? {
        // As stat(2) has it: proved when the file is read.
        Kind::File(extents) => {
            item.size = match extents.recorded() {
                Some(size) => size,
                None => {
                    image.work().extents(&extents)?;
                    extents.total()?
                }
            }
        }
        Kind::Symlink(target) => {
            item.size = u64::try_from(target.len())?;
            item.target = Some(String::from_utf8_lossy(target).into_owned());
            item.target_hex = not_utf8(target);
            item.target_bytes = target.to_vec();
        }
        Kind::Chr(device) | Kind::Blk(device) => item.device = Some((device.major, device.minor)),
        Kind::Dir(_) | Kind::Fifo | Kind::Sock => {}
    }
    Ok(item)
}

/// Bytes in hexadecimal, unless a string can hold them as they are.
pub(super) fn not_utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| hex(bytes))
}
