// SPDX-License-Identifier: Apache-2.0
//! The inodes of merged layers, numbered as those of a directory tree of the host are
//! ([`crate::tree::scan`]): so the same tree is the same image, wherever it comes from.

use std::collections::{BTreeMap, HashMap};

use anyhow::{ensure, Context, Result};

use super::layer::{Dir, Id, Layer, Name};
use super::{Body, Inode, Layers};
use crate::base::text;
use crate::tree::{self, Entry, Node, Tree, ROOT_INO};

/// Hard links that lead to each other by way of layers, at most; an image has fewer layers.
const MAX_HOPS: u32 = 1024;

/// Layers that have become one tree.
pub struct Flat {
    /// The tree; files have no extents yet.
    pub tree: Tree,
    /// Where the content of each inode is kept, by its number less one; nothing for what has none.
    pub kept: Vec<Option<u32>>,
    /// The uppermost layer that has each inode, a name of it, or anything in it: in the same order.
    pub layers: Vec<Layer>,
    /// Extended attributes that no image has, and how many entries have them.
    pub left_out: BTreeMap<Vec<u8>, u64>,
}

impl Layers<'_> {
    /// One tree of all layers that were given. No time in it is later than `clamp`, in seconds
    /// since the epoch.
    ///
    /// # Errors
    ///
    /// If a link leads to nothing.
    pub fn flatten(self, clamp: Option<i64>) -> Result<Flat> {
        if let Some(path) = self.awaited.keys().next() {
            let path = text::quoted(&path.join(&b'/'));
            anyhow::bail!("a hard link to {path}, which no layer below has");
        }
        let mut merged = self.merged;
        prune(&mut merged, &self.begins);
        let mut flat = Flatten {
            inodes: &self.inodes,
            begins: &self.begins,
            flat: Flat {
                tree: self.tree,
                kept: Vec::new(),
                layers: Vec::new(),
                left_out: self.left_out,
            },
            numbers: HashMap::new(),
            clamp,
        };
        let name = flat.flat.tree.intern(b"")?;
        flat.dir(&merged, ROOT_INO, name)?;
        let mut stack = vec![(ROOT_INO, merged)];
        while let Some((ino, dir)) = stack.pop() {
            let first = stack.len();
            flat.entries(ino, dir, &mut stack)?;
            stack[first..].reverse();
        }
        Ok(flat.flat)
    }
}

/// Takes out what hides something, and directories that are there only as places of such. Notes what
/// layers have anything in the others.
fn prune(dir: &mut Dir, begins: &[Id]) {
    let mut uppermost = dir.inode.map_or(dir.layer, |id| layer_of(begins, id));
    uppermost = uppermost.min(dir.layer);
    dir.names.retain(|_, name| {
        let (layer, stays) = match name {
            Name::Gone => (Layer::MAX, false),
            Name::Leaf(id) => (layer_of(begins, *id), true),
            Name::Dir(dir) => {
                prune(dir, begins);
                (dir.layer, dir.inode.is_some() || !dir.names.is_empty())
            }
        };
        uppermost = uppermost.min(layer);
        stays
    });
    dir.layer = uppermost;
}

/// The layer that an inode is of.
fn layer_of(begins: &[Id], id: Id) -> Layer {
    // The first of all begins with the first inode, and there are as many as fit.
    begins.partition_point(|begin| *begin <= id) as Layer - 1
}

struct Flatten<'a> {
    inodes: &'a [Inode],
    begins: &'a [Id],
    flat: Flat,
    /// The numbers of those that have one.
    numbers: HashMap<Id, u32>,
    clamp: Option<i64>,
}

/// A directory of which no entry says anything: who unpacks makes it so, but for the time.
const UNSAID: Inode = Inode {
    permissions: 0o755,
    uid: 0,
    gid: 0,
    mtime: (0, 0),
    xattrs: 0,
    body: Body::Dir,
};

impl Flatten<'_> {
    /// Gives the entries of a directory their numbers.
    fn entries(&mut self, ino: u32, dir: Dir, stack: &mut Vec<(u32, Dir)>) -> Result<()> {
        let start = self.flat.tree.entries.len();
        for (bytes, child) in dir.names {
            let name = self.flat.tree.intern(&bytes)?;
            let number = match child {
                Name::Gone => continue,
                Name::Leaf(id) => self.leaf(id, ino, name).with_context(|| {
                    let path = self.flat.tree.path(ino);
                    format!("{} in {}", text::quoted(&bytes), text::path(&path))
                })?,
                Name::Dir(child) => {
                    self.flat.tree.node_mut(ino).nlink += 1;
                    let number = self.dir(&child, ino, name)?;
                    stack.push((number, child));
                    number
                }
            };
            self.flat.tree.entries.push(Entry { ino: number, name });
        }
        let span = self.flat.tree.sort_entries(start)?;
        self.flat.tree.node_mut(ino).body = tree::Body::Dir(span);
        Ok(())
    }

    fn dir(&mut self, dir: &Dir, parent: u32, name: tree::Text) -> Result<u32> {
        let inodes = self.inodes;
        let inode = dir.inode.map_or(&UNSAID, |id| &inodes[id as usize]);
        self.flat.layers.push(dir.layer);
        self.flat.kept.push(None);
        self.push(inode, parent, name, tree::Body::Dir(Default::default()))
    }

    fn leaf(&mut self, id: Id, parent: u32, name: tree::Text) -> Result<u32> {
        let layer = layer_of(self.begins, id);
        let id = self.followed(id)?;
        if let Some(number) = self.numbers.get(&id) {
            self.flat.tree.node_mut(*number).nlink += 1;
            let first = &mut self.flat.layers[*number as usize - 1];
            *first = layer.min(*first);
            return Ok(*number);
        }
        let inode = &self.inodes[id as usize];
        let mut kept = None;
        let body = match &inode.body {
            Body::File {
                size,
                kept: content,
            } => {
                kept = *content;
                ensure!(kept.is_some(), "its content was not kept");
                tree::Body::File {
                    size: *size,
                    extents: Default::default(),
                }
            }
            Body::Symlink(target) => tree::Body::Symlink(self.flat.tree.intern(target)?),
            Body::Chr(major, minor) => tree::Body::Chr(*major, *minor),
            Body::Blk(major, minor) => tree::Body::Blk(*major, *minor),
            Body::Fifo => tree::Body::Fifo,
            Body::Dir | Body::Link(_) => anyhow::bail!("a link to a directory"),
        };
        self.flat.layers.push(layer);
        self.flat.kept.push(kept);
        let number = self.push(inode, parent, name, body)?;
        self.numbers.insert(id, number);
        Ok(number)
    }

    /// The inode that a link, by way of others, leads to.
    fn followed(&self, mut id: Id) -> Result<Id> {
        for _ in 0..MAX_HOPS {
            match &self.inodes[id as usize].body {
                Body::Link(to) => id = to.context("a link that leads to nothing")?,
                _ => return Ok(id),
            }
        }
        anyhow::bail!("hard links that lead to each other")
    }

    fn push(
        &mut self,
        inode: &Inode,
        parent: u32,
        name: tree::Text,
        body: tree::Body,
    ) -> Result<u32> {
        let (mtime, mtime_nsec) = match self.clamp {
            Some(limit) if inode.mtime.0 >= limit => (limit, 0),
            _ => inode.mtime,
        };
        self.flat.tree.push(Node {
            mtime,
            mtime_nsec,
            uid: inode.uid,
            gid: inode.gid,
            nlink: if matches!(body, tree::Body::Dir(_)) {
                2
            } else {
                1
            },
            xattrs: inode.xattrs,
            parent,
            name,
            permissions: inode.permissions,
            body,
        })
    }
}
