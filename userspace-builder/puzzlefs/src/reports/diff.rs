// SPDX-License-Identifier: Apache-2.0
//! In what two images differ.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use puzzlefs_format::{xattr_is_shown, Digest, FileType, Inode, Kind};
use serde::Serialize;

use super::list::not_utf8;
use crate::base::text;
use crate::chunks::places::Places;
use crate::image::chunk::ChunkReader;
use crate::image::file::{Content, Piece};
use crate::image::walk::{Step, Walk};
use crate::image::Image;

/// What happened to a path on the way from the first image to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Deleted,
    /// Both have it, and it is not the same.
    Modified,
}

/// A path that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// How.
    pub what: What,
    /// Path from the root; where it is not UTF-8, with replacement characters.
    pub path: String,
    /// The path's bytes.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// The path's bytes in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// In what: `type`, `content`, `target`, `device`, `mode`, `owner`, `mtime`, `xattrs`, `links`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<&'static str>,
    /// Bytes of a file that the other image has not at the same place of it: all of an added or deleted
    /// one.
    pub data_bytes: u64,
}

/// All in all.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Summary {
    /// Paths that only the second image has.
    pub added: u64,
    /// Paths that only the first has.
    pub deleted: u64,
    /// Paths that differ.
    pub modified: u64,
    /// Bytes of files that differ.
    pub data_bytes: u64,
    /// Chunks that files of each image use.
    pub chunks: [u64; 2],
    /// Those that files of both use.
    pub shared_chunks: u64,
}

/// Hands all paths that differ to `each`, in order, which fails if it cannot write them.
pub fn diff(
    first: &Image,
    second: &Image,
    each: &mut dyn FnMut(Change) -> io::Result<()>,
) -> crate::Result<Summary> {
    let mut summary = compare(first, second, each)?;
    let chunks = |image: &Image| -> crate::Result<HashSet<Digest>> {
        let chunks = image.chunks()?.into_iter();
        Ok(chunks.map(|(digest, _)| digest).collect())
    };
    let (a, b) = (chunks(first)?, chunks(second)?);
    summary.chunks = [a.len() as u64, b.len() as u64];
    summary.shared_chunks = a.intersection(&b).count() as u64;
    Ok(summary)
}

fn compare(
    first: &Image,
    second: &Image,
    each: &mut dyn FnMut(Change) -> io::Result<()>,
) -> Result<Summary> {
    let places = [first.sound_places()?, second.sound_places()?];
    let mut a = Side::new(first, &places[0])?;
    let mut b = Side::new(second, &places[1])?;
    let mut summary = Summary::default();
    loop {
        // Walks go by names in byte order, and so are paths compared, part by part.
        let order = match (&a.next, &b.next) {
            (None, None) => return Ok(summary),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let change = match order {
            Ordering::Less => {
                summary.deleted += 1;
                a.only(What::Deleted)?
            }
            Ordering::Greater => {
                summary.added += 1;
                b.only(What::Added)?
            }
            Ordering::Equal => match both(&mut a, &mut b)? {
                Some(change) => {
                    summary.modified += 1;
                    change
                }
                None => continue,
            },
        };
        summary.data_bytes = summary.data_bytes.saturating_add(change.data_bytes);
        each(change).context("writing what differs")?;
    }
}

/// One of the images, on the way through it.
struct Side<'a> {
    image: &'a Image,
    walk: Walk<'a>,
    chunks: ChunkReader<'a>,
    next: Option<(PathBuf, Inode<'a>)>,
    /// First path of inodes that may have several.
    links: HashMap<u64, PathBuf>,
}

impl<'a> Side<'a> {
    fn new(image: &'a Image, places: &'a Places<'a>) -> Result<Self> {
        let mut side = Side {
            image,
            walk: Walk::new(image)?,
            chunks: ChunkReader::new(places, image.rootfs()?.version())?,
            next: None,
            links: HashMap::new(),
        };
        side.advance()?;
        Ok(side)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = loop {
            match self.walk.next()? {
                None => break None,
                Some(Step::Leave(_)) => {}
                Some(Step::Enter(inode)) => break Some((self.walk.full_path(), inode)),
            }
        };
        Ok(())
    }

    fn take(&mut self) -> Result<(PathBuf, Inode<'a>)> {
        let taken = self.next.take().context("nothing is next")?;
        self.advance()?;
        Ok(taken)
    }

    fn only(&mut self, what: What) -> Result<Change> {
        let (path, inode) = self.take()?;
        let bytes = match inode.kind()? {
            Kind::File(extents) => Content::new(self.image, extents)?.size(),
            _ => 0,
        };
        Ok(change(what, &path, Vec::new(), bytes))
    }

    /// The first path of the same inode, if this is not it.
    fn link(&mut self, path: &Path, inode: &Inode<'_>) -> Option<PathBuf> {
        if inode.file_type() == FileType::Dir || inode.nlink() == Some(1) {
            return None;
        }
        match self.links.entry(inode.ino()) {
            Entry::Occupied(first) => Some(first.get().clone()),
            Entry::Vacant(place) => {
                place.insert(path.to_owned());
                None
            }
        }
    }
}

/// In what a path differs that both have, if it does.
fn both(a: &mut Side<'_>, b: &mut Side<'_>) -> Result<Option<Change>> {
    let ((path, x), (_, y)) = (a.take()?, b.take()?);
    let (parts, bytes) = differ(a, &x, b, &y, &path).with_context(|| text::path(&path))?;
    Ok((!parts.is_empty()).then(|| change(What::Modified, &path, parts, bytes)))
}

fn differ(
    a: &mut Side<'_>,
    x: &Inode<'_>,
    b: &mut Side<'_>,
    y: &Inode<'_>,
    path: &Path,
) -> Result<(Vec<&'static str>, u64)> {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    let mut note = |differs: bool, part| parts.extend(differs.then_some(part));
    match (x.kind()?, y.kind()?) {
        (Kind::File(old), Kind::File(new)) => {
            let old = Content::new(a.image, old)?;
            let new = Content::new(b.image, new)?;
            let is_longer = old.size() != new.size();
            bytes = contents(old, &mut a.chunks, new, &mut b.chunks)?;
            note(is_longer || bytes > 0, "content");
        }
        (Kind::Symlink(old), Kind::Symlink(new)) => note(old != new, "target"),
        (Kind::Chr(old), Kind::Chr(new)) | (Kind::Blk(old), Kind::Blk(new)) => {
            note(old != new, "device");
        }
        _ => note(x.file_type() != y.file_type(), "type"),
    }
    note(x.permissions() != y.permissions(), "mode");
    note((x.uid(), x.gid()) != (y.uid(), y.gid()), "owner");
    note(x.mtime() != y.mtime(), "mtime");
    note(xattrs(a.image, x)? != xattrs(b.image, y)?, "xattrs");
    note(a.link(path, x) != b.link(path, y), "links");
    Ok((parts, bytes))
}

/// The extended attributes that readers show; of several of one name the first.
fn xattrs<'a>(image: &Image, inode: &Inode<'a>) -> Result<BTreeMap<&'a [u8], &'a [u8]>> {
    let list = inode.xattrs()?;
    image.work().xattrs(&list)?;
    let mut shown = BTreeMap::new();
    for index in 0..list.len() {
        let item = list.get(index)?;
        if xattr_is_shown(item.name, inode.file_type()) {
            shown.entry(item.name).or_insert(item.value);
        }
    }
    Ok(shown)
}

/// How many bytes differ, each from the one at its place, where one file is longer its rest. Equal lists
/// of extents are equal files, and are not read.
fn contents(
    mut old: Content<'_>,
    old_chunks: &mut ChunkReader<'_>,
    mut new: Content<'_>,
    new_chunks: &mut ChunkReader<'_>,
) -> Result<u64> {
    if old.is_same(&new)? {
        return Ok(0);
    }
    let common = old.size().min(new.size());
    let mut differ = old.size().max(new.size()) - common;
    let (mut x, mut y) = (Rest::default(), Rest::default());
    let mut at = 0;
    while at < common {
        x.fill(&mut old, old_chunks)?;
        y.fill(&mut new, new_chunks)?;
        let len = x.len().min(y.len()).min(common - at);
        differ += match (x.take(len)?, y.take(len)?) {
            (None, None) => 0,
            (Some(data), None) | (None, Some(data)) => data.iter().filter(|b| **b != 0).count(),
            (Some(x), Some(y)) if x == y => 0,
            (Some(x), Some(y)) => x.iter().zip(y).filter(|(x, y)| x != y).count(),
        } as u64;
        at += len;
    }
    Ok(differ)
}

/// What of a piece was not looked at yet.
#[derive(Default)]
struct Rest {
    data: Vec<u8>,
    at: usize,
    hole: u64,
}

impl Rest {
    fn len(&self) -> u64 {
        self.hole + (self.data.len() - self.at) as u64
    }

    /// Gets the next piece if nothing is left of the last one.
    fn fill(&mut self, content: &mut Content<'_>, chunks: &mut ChunkReader<'_>) -> Result<()> {
        while self.len() == 0 {
            self.data.clear();
            self.at = 0;
            match content.next(chunks)?.context("a file ends early")? {
                Piece::Data(bytes) => self.data.extend_from_slice(bytes),
                Piece::Hole(len) => self.hole = len,
            }
        }
        Ok(())
    }

    /// The next `len` bytes; `None` for those of a hole.
    fn take(&mut self, len: u64) -> Result<Option<&[u8]>> {
        if self.hole > 0 {
            self.hole -= len;
            return Ok(None);
        }
        let start = self.at;
        self.at += usize::try_from(len)?;
        Ok(Some(&self.data[start..self.at]))
    }
}

fn change(what: What, path: &Path, parts: Vec<&'static str>, data_bytes: u64) -> Change {
    let bytes = path.as_os_str().as_bytes();
    Change {
        what,
        path: String::from_utf8_lossy(bytes).into_owned(),
        bytes: bytes.to_vec(),
        path_hex: not_utf8(bytes),
        parts,
        data_bytes,
    }
}
