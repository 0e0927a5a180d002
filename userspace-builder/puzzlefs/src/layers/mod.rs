// SPDX-License-Identifier: Apache-2.0
//! The layers of an ordinary container image become one tree (OCI image-spec, layer.md).
//!
//! They are read once each, from the uppermost down. So it is known of each entry whether a
//! layer above hides it, before its content comes by.
//!
//! - this file: layer after layer;
//! - `decode`: the tar in a blob, whatever compressed it;
//! - `archive`: the entries of a tar; `fields`, `sparse`: what its headers say;
//! - `names`: where an entry belongs, and what its name means in a layer;
//! - `layer`: the entries of one layer, in the places that they get;
//! - `merge`: layers on top of each other;
//! - `flatten`: the inodes in the order of an image.

pub(crate) mod archive;
mod decode;
mod fields;
mod flatten;
mod layer;
mod merge;
mod names;
mod sparse;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use anyhow::{bail, ensure, Context, Result};
use puzzlefs_format::{xattr_is_shown, FileType};

use crate::base::text;
use crate::tree::Tree;
use archive::{Archive, Entry, Kind};
use layer::{Dir, Id, Name};
use names::{Meaning, Path};

/// The content of a file, as it comes by.
pub trait Content {
    /// Fills `buffer` with the bytes at the present position; it stays empty at the end of the file.
    /// Returns how many zeros are in front of them.
    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<u64>;
}

impl<R: Read> Content for Archive<R> {
    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<u64> {
        Archive::read(self, buffer)
    }
}

/// Keeps the content of files.
pub trait Keep {
    /// Keeps a file of `size` bytes, more than none. Returns a number by which it is found again.
    fn keep(&mut self, size: u64, content: &mut dyn Content) -> Result<u32>;
}

/// How a tar is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a layer: some names hide what layers below have.
    Layer,
    /// It is a tree by itself: names mean nothing else.
    Tree,
}

/// Layers on top of each other.
pub struct Layers<'a> {
    keep: &'a mut dyn Keep,
    merged: Dir,
    inodes: Vec<Inode>,
    /// Of each layer its first inode.
    begins: Vec<Id>,
    /// Has the sets of extended attributes.
    tree: Tree,
    /// Links to what layers below must have, by its path there.
    awaited: HashMap<Path, Vec<Id>>,
    /// Extended attributes that no image has, and how many entries have them.
    left_out: BTreeMap<Vec<u8>, u64>,
}

/// An inode.
#[derive(Debug)]
struct Inode {
    permissions: u16,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    /// Index of the set of extended attributes.
    xattrs: u32,
    body: Body,
}

/// What an inode is.
#[derive(Debug)]
enum Body {
    Dir,
    File {
        size: u64,
        /// Where its content is kept; nothing if it is not, as nobody can see it.
        kept: Option<u32>,
    },
    Symlink(Vec<u8>),
    Chr(u32, u32),
    Blk(u32, u32),
    Fifo,
    /// A link to what a layer below has, once that was found.
    Link(Option<Id>),
}

impl Body {
    fn file_type(&self) -> FileType {
        match self {
            Body::Dir => FileType::Dir,
            Body::File { .. } | Body::Link(_) => FileType::File,
            Body::Symlink(_) => FileType::Symlink,
            Body::Chr(..) => FileType::Chr,
            Body::Blk(..) => FileType::Blk,
            Body::Fifo => FileType::Fifo,
        }
    }
}

/// What one layer has besides its tree.
#[derive(Default)]
struct Pass {
    dir: Dir,
    /// Files whose content was not kept, by the number of their entry.
    unkept: HashMap<u64, Id>,
    /// Those that another name shows all the same.
    shown: HashSet<Id>,
}

impl<'a> Layers<'a> {
    /// None yet.
    pub fn new(keep: &'a mut dyn Keep) -> Self {
        Layers {
            keep,
            merged: Dir::default(),
            inodes: Vec::new(),
            begins: Vec::new(),
            tree: Tree::new(),
            awaited: HashMap::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Puts a layer below those that were given before. `open` gives its blob, which may be
    /// compressed; once more if a link leads to what seemed to be hidden.
    ///
    /// # Errors
    ///
    /// What is no tar, is damaged, or cannot be unpacked; with the entry's name.
    pub fn put_below<R: Read>(&mut self, role: Role, open: impl Fn() -> Result<R>) -> Result<()> {
        let mut pass = Pass::default();
        let layer = u32::try_from(self.begins.len()).context("more than 2^32 layers")?;
        // push() made sure that the count fits.
        self.begins.push(self.inodes.len() as Id);
        let mut archive = Archive::new(decode::decode(open()?)?);
        for number in 0.. {
            let Some(entry) = archive.next()? else {
                break;
            };
            let path = entry.path.clone();
            self.entry(&mut pass, number, role, entry, &mut archive)
                .with_context(|| format!("the entry {}", text::quoted(&path)))?;
        }
        archive.finish()?;
        if !pass.shown.is_empty() {
            self.keep_shown(&pass, Archive::new(decode::decode(open()?)?))?;
        }
        self.answer(&pass.dir)?;
        if !pass.dir.says_nothing() {
            pass.dir.is_of(layer);
        }
        let inodes = &self.inodes;
        let target = |id: Id| target(inodes, id);
        let moved = self.merged.put_below(pass.dir, &target);
        for dir in moved {
            self.merged.move_dir(dir, &target)?;
        }
        Ok(())
    }

    /// Takes an entry.
    fn entry<R: Read>(
        &mut self,
        pass: &mut Pass,
        number: u64,
        role: Role,
        entry: Entry,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let path = names::path(&entry.path)?;
        let Some((name, parents)) = path.split_last() else {
            ensure!(entry.kind == Kind::Dir, "the root can be a directory only");
            pass.dir.inode = Some(self.push(&entry, Body::Dir)?);
            return Ok(());
        };
        let meaning = match role {
            Role::Layer => names::meaning(name),
            Role::Tree => Meaning::Name,
        };
        let inodes = &self.inodes;
        let target = |id: Id| target(inodes, id);
        match meaning {
            Meaning::Nothing => return Ok(()),
            // Where a directory was replaced by a file, umoci says of each name in it that it is gone.
            Meaning::Whiteout(_) | Meaning::Opaque if pass.dir.is_leaf(parents) => return Ok(()),
            Meaning::Whiteout(name) => {
                pass.dir.make(parents, &target)?.hide(name);
                return Ok(());
            }
            Meaning::Opaque => {
                pass.dir.make(parents, &target)?.hide_all();
                return Ok(());
            }
            Meaning::Name => {}
        }
        // Made in any case, so that each entry finds its place as it would on a disk.
        pass.dir.make(parents, &target)?;
        let id = match &entry.kind {
            Kind::Link(to) => {
                let to = names::path(to)?;
                self.link(pass, &entry, to)?
            }
            Kind::File(size) => {
                let is_shown = !self.merged.hides(&path, false) || self.awaited.contains_key(&path);
                let kept = match *size {
                    0 => Some(0),
                    size if is_shown => Some(self.keep.keep(size, archive)?),
                    _ => None,
                };
                let id = self.push(&entry, Body::File { size: *size, kept })?;
                if kept.is_none() {
                    pass.unkept.insert(number, id);
                }
                id
            }
            Kind::Dir => self.push(&entry, Body::Dir)?,
            Kind::Symlink(to) => self.push(&entry, Body::Symlink(to.clone()))?,
            Kind::Chr(major, minor) => self.push(&entry, Body::Chr(*major, *minor))?,
            Kind::Blk(major, minor) => self.push(&entry, Body::Blk(*major, *minor))?,
            Kind::Fifo => self.push(&entry, Body::Fifo)?,
        };
        let inodes = &self.inodes;
        let target = |id: Id| self::target(inodes, id);
        let dir = pass.dir.make(parents, &target)?;
        match entry.kind {
            Kind::Dir => dir.put_dir(name, id),
            _ => dir.put(name, id),
        }
        Ok(())
    }

    /// The inode that a link leads to.
    fn link(&mut self, pass: &mut Pass, entry: &Entry, to: Path) -> Result<Id> {
        match pass.dir.find(&to) {
            Some(Name::Leaf(id)) => {
                if matches!(
                    self.inodes[*id as usize].body,
                    Body::File { kept: None, .. }
                ) {
                    pass.shown.insert(*id);
                }
                Ok(*id)
            }
            Some(Name::Dir(dir)) if dir.inode.is_some() => bail!("a link to a directory"),
            Some(Name::Gone) => bail!("a link to what this layer removes"),
            _ => {
                let id = self.push(entry, Body::Link(None))?;
                self.awaited.entry(to).or_default().push(id);
                Ok(id)
            }
        }
    }

    /// Looks in a layer for what links of layers above lead to.
    fn answer(&mut self, layer: &Dir) -> Result<()> {
        let mut awaited = std::mem::take(&mut self.awaited);
        awaited.retain(|path, ids| {
            let found = match layer.find(path) {
                Some(Name::Leaf(found)) if !ids.contains(found) => *found,
                _ => return true,
            };
            for id in ids {
                self.inodes[*id as usize].body = Body::Link(Some(found));
            }
            false
        });
        for (path, ids) in awaited {
            self.awaited.entry(path).or_default().extend(ids);
        }
        Ok(())
    }

    /// Keeps the content of files that are hidden, but have another name that is not.
    fn keep_shown<R: Read>(&mut self, pass: &Pass, mut archive: Archive<R>) -> Result<()> {
        for number in 0.. {
            let Some(entry) = archive.next()? else {
                break;
            };
            let id = pass
                .unkept
                .get(&number)
                .filter(|id| pass.shown.contains(id));
            if let (Some(id), Kind::File(size)) = (id, entry.kind) {
                let kept = Some(self.keep.keep(size, &mut archive)?);
                self.inodes[*id as usize].body = Body::File { size, kept };
            }
        }
        archive.finish()
    }

    /// Adds an inode.
    fn push(&mut self, entry: &Entry, body: Body) -> Result<Id> {
        let file_type = body.file_type();
        let mut xattrs = entry.xattrs.clone();
        xattrs.retain(|(name, _)| {
            let is_shown = xattr_is_shown(name, file_type);
            if !is_shown {
                *self.left_out.entry(name.clone()).or_default() += 1;
            }
            is_shown
        });
        xattrs.sort_unstable();
        let xattrs = self.tree.intern_xattrs(xattrs)?;
        let id = u32::try_from(self.inodes.len()).context("more than 2^32 entries")?;
        self.inodes.push(Inode {
            // Those of a symbolic link mean nothing on Linux.
            permissions: match body {
                Body::Symlink(_) => 0o777,
                _ => entry.permissions,
            },
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs,
            body,
        });
        Ok(id)
    }
}

/// Where an inode leads, if it is a symbolic link.
fn target(inodes: &[Inode], id: Id) -> Option<Vec<u8>> {
    match &inodes[id as usize].body {
        Body::Symlink(target) => Some(target.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
