// SPDX-License-Identifier: Apache-2.0
//! An image becomes what other tools read.
//!
//! - this file: a file of it; a tar of its tree, in an order and with headers that follow from the image alone;
//! - `entry`: the headers;
//! - [`ordinary`]: an ordinary OCI image of one layer, which is such a tar.

mod entry;
pub mod ordinary;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use puzzlefs_format::{xattr_is_shown, FileType, Inode, Kind};
use serde::Serialize;
use tar::EntryType;

use crate::base::error::Error;
use crate::base::progress::{Progress, Unit};
use crate::base::text;
use crate::image::chunk::ChunkReader;
use crate::image::file::{Content, Piece};
use crate::image::walk::{Name, Step, Walk};
use crate::image::Image;
use entry::{can_hold, pad, sparse_map, Entry, BLOCK};

/// What was exported.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Report {
    /// Entries of the tar.
    pub names: u64,
    /// Bytes of files.
    pub data_bytes: u64,
    /// Sockets, which no tar has.
    pub sockets: u64,
    /// Extended attributes that readers of the image show, and whose names no tar can hold.
    pub xattrs: u64,
}

/// Writes the tree of `image` to `out` as a tar.
///
/// # Errors
///
/// What was written until then is no whole tar.
pub fn tar(image: &Image, out: &mut dyn Write, progress: &dyn Progress) -> crate::Result<Report> {
    Ok(write(image, out, false, progress)?)
}

/// Writes the files at `paths` of `image` to `out`, one after the other. Symbolic links are followed.
///
/// # Errors
///
/// Files before the one that is at fault are written.
pub fn files<'a>(
    image: &Image,
    paths: impl IntoIterator<Item = &'a [u8]>,
    out: &mut dyn Write,
) -> crate::Result<()> {
    let (places, version) = (image.sound_places()?, image.rootfs()?.version());
    let mut chunks = ChunkReader::new(&places, version)?;
    let mut paths = paths.into_iter();
    paths.try_for_each(|path| file(image, path, &mut chunks, out))
}

fn file(
    image: &Image,
    path: &[u8],
    chunks: &mut ChunkReader<'_>,
    out: &mut dyn Write,
) -> crate::Result<()> {
    let inode = image.follow(path)?;
    let Kind::File(extents) = inode.kind()? else {
        let text = format!("{}: it is no regular file", text::quoted(path));
        return Err(Error::refused(text));
    };
    let content = Content::new(image, extents)?;
    let written = content.for_each(chunks, |piece| {
        match piece {
            Piece::Data(bytes) => out.write_all(bytes)?,
            Piece::Hole(len) => {
                io::copy(&mut io::repeat(0).take(len), out)?;
            }
        }
        Ok(())
    });
    Ok(written.with_context(|| text::quoted(path))?)
}

/// A tar, or the same as a layer (OCI image-spec, layer.md), in which some names mean that something is not there.
fn write(
    image: &Image,
    out: &mut dyn Write,
    is_layer: bool,
    progress: &dyn Progress,
) -> Result<Report> {
    let rootfs = image.rootfs()?;
    let places = image.sound_places()?;
    progress.phase("exporting", rootfs.data_size(), Unit::Bytes);
    let mut exporter = Exporter {
        image,
        out,
        chunks: ChunkReader::new(&places, rootfs.version())?,
        links: HashMap::new(),
        report: Report::default(),
        progress,
    };
    let mut walk = Walk::new(image)?;
    while let Some(step) = walk.next()? {
        if let Step::Enter(inode) = step {
            if is_layer {
                ensure_no_whiteout(&walk)?;
            }
            let put = exporter.put(&walk, &inode);
            put.with_context(|| format!("exporting {}", walk.name()))?;
        }
    }
    // Two blocks of zeros are the end.
    let end = [0; 2 * BLOCK as usize];
    exporter.out.write_all(&end).context(WRITING)?;
    Ok(exporter.report)
}

const WRITING: &str = "writing the tar";

/// Refuses a name that a layer cannot have.
fn ensure_no_whiteout(walk: &Walk<'_>) -> Result<()> {
    let name = walk.path().file_name().unwrap_or_default();
    match name.as_bytes().starts_with(b".wh.") {
        true => Err(Error::refused(format!(
            "{}: in a layer of an ordinary image such a name says that another file is deleted; \
             export a tar",
            walk.name()
        ))
        .into()),
        false => Ok(()),
    }
}

struct Exporter<'a> {
    image: &'a Image,
    out: &'a mut dyn Write,
    chunks: ChunkReader<'a>,
    /// First name of inodes that may have several.
    links: HashMap<u64, Name>,
    report: Report,
    progress: &'a dyn Progress,
}

impl Exporter<'_> {
    fn put(&mut self, walk: &Walk<'_>, inode: &Inode<'_>) -> Result<()> {
        let kind = inode.kind()?;
        if matches!(kind, Kind::Sock) {
            self.report.sockets += 1;
            return Ok(());
        }
        let path = entry_path(walk.path(), inode.file_type());
        let xattrs = self.xattrs(inode)?;
        let mtime = inode.mtime();
        let mut entry = Entry {
            path: &path,
            kind: EntryType::Regular,
            mode: inode.permissions().into(),
            uid: inode.uid(),
            gid: inode.gid(),
            mtime: (mtime.sec, mtime.nsec),
            size: 0,
            sparse: None,
            link: b"",
            device: (0, 0),
            xattrs: &xattrs,
        };
        self.report.names += 1;
        if inode.file_type() != FileType::Dir && inode.nlink() != Some(1) {
            if let Some(first) = self.links.get(&inode.ino()) {
                let first = entry_path(&walk.path_of(*first)?, inode.file_type());
                entry.kind = EntryType::Link;
                entry.link = &first;
                // What it is was said of the first name.
                entry.xattrs = &[];
                return entry.write(self.out).context(WRITING);
            }
            if let Some(name) = walk.place() {
                self.links.insert(inode.ino(), name);
            }
        }
        match kind {
            Kind::File(extents) => {
                let content = Content::new(self.image, extents)?;
                return self.file(entry, content);
            }
            Kind::Dir(_) => entry.kind = EntryType::Directory,
            Kind::Symlink(target) => {
                entry.kind = EntryType::Symlink;
                entry.link = target;
            }
            Kind::Chr(device) | Kind::Blk(device) => {
                entry.kind = match kind {
                    Kind::Chr(_) => EntryType::Char,
                    _ => EntryType::Block,
                };
                entry.device = (device.major, device.minor);
            }
            Kind::Fifo | Kind::Sock => entry.kind = EntryType::Fifo,
        }
        entry.write(self.out).context(WRITING)
    }

    /// A file, of which only the data are in the tar.
    fn file(&mut self, mut entry: Entry<'_>, content: Content<'_>) -> Result<()> {
        let (size, data) = (content.size(), content.data()?);
        let stored: u64 = data.iter().map(|(start, end)| end - start).sum();
        let map = match stored == size {
            true => Vec::new(),
            false => {
                entry.sparse = Some(size);
                sparse_map(&data, size)
            }
        };
        entry.size = stored.saturating_add(map.len() as u64);
        entry.write(self.out).context(WRITING)?;
        self.out.write_all(&map).context(WRITING)?;
        let (out, progress) = (&mut *self.out, self.progress);
        content.for_each(&mut self.chunks, |piece| {
            if let Piece::Data(bytes) = piece {
                out.write_all(bytes).context(WRITING)?;
                progress.advance(bytes.len() as u64);
            }
            Ok(())
        })?;
        self.report.data_bytes = self.report.data_bytes.saturating_add(size);
        pad(self.out, entry.size).context(WRITING)
    }

    /// The extended attributes that readers show; of several of one name the first.
    fn xattrs<'a>(&mut self, inode: &Inode<'a>) -> Result<Vec<(&'a [u8], &'a [u8])>> {
        let list = inode.xattrs()?;
        self.image.work().xattrs(&list)?;
        let (mut seen, mut xattrs) = (HashSet::new(), Vec::new());
        for index in 0..list.len() {
            let item = list.get(index)?;
            if !xattr_is_shown(item.name, inode.file_type()) || !seen.insert(item.name) {
                continue;
            }
            match can_hold(item.name) {
                true => xattrs.push((item.name, item.value)),
                false => self.report.xattrs += 1,
            }
        }
        Ok(xattrs)
    }
}

/// The path of an entry: that of the root is `./`.
fn entry_path(path: &Path, file_type: FileType) -> Vec<u8> {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    if bytes.is_empty() {
        bytes.push(b'.');
    }
    if file_type == FileType::Dir {
        bytes.push(b'/');
    }
    bytes
}
