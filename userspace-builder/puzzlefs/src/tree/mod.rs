// SPDX-License-Identifier: Apache-2.0
//! A directory tree in memory, compact enough for millions of inodes: names in one
//! arena, every list a range of one shared vector, equal xattr sets stored once.
//!
//! - this file: the tree;
//! - [`scan`]: reading it from the host;
//! - [`rules`]: what is to be different from that;
//! - `file`: reading the content of its files.

pub(crate) mod file;
pub mod rules;
pub mod scan;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::FileType;

use crate::host::xattr::XattrSet;

/// Inode number of the root directory.
pub const ROOT_INO: u32 = 1;

/// A byte string in the arena of a [`Tree`]: a file name or a symlink target.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    start: u32,
    len: u16,
}

/// A directory entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Inode that the name stands for.
    pub ino: u32,
    /// The name: not empty, without `/`.
    pub name: Text,
}

/// A range of [`Tree::entries`] or [`Tree::extents`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The span of `vector` from `start` to its present end.
    pub fn since<T>(vector: &[T], start: usize) -> Result<Self> {
        Ok(Span {
            start: u32::try_from(start).context("more than 2^32 list items")?,
            len: u32::try_from(vector.len() - start).context("a list of more than 2^32 items")?,
        })
    }

    fn of<T>(self, vector: &[T]) -> &[T] {
        let start = self.start as usize;
        &vector[start..start + self.len as usize]
    }
}

/// A run of a file's bytes: a part of a chunk, or a hole.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Number of the chunk in order of first use, or [`Extent::HOLE`].
    pub chunk: u32,
    /// Where the run begins in the uncompressed chunk, in bytes.
    pub offset: u32,
    /// Length in bytes.
    pub len: u64,
}

impl Extent {
    /// The `chunk` of a hole.
    pub const HOLE: u32 = u32::MAX;
}

/// What an inode is, with what only that type has.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// A directory; its entries are sorted by name bytes.
    Dir(Span),
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Its extents, once the content has been read.
        extents: Span,
    },
    /// A symbolic link and its target.
    Symlink(Text),
    /// A character device: major and minor number.
    Chr(u32, u32),
    /// A block device: major and minor number.
    Blk(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Sock,
}

impl Body {
    /// What it is.
    pub fn file_type(&self) -> FileType {
        match self {
            Body::Dir(_) => FileType::Dir,
            Body::File { .. } => FileType::File,
            Body::Symlink(_) => FileType::Symlink,
            Body::Chr(..) => FileType::Chr,
            Body::Blk(..) => FileType::Blk,
            Body::Fifo => FileType::Fifo,
            Body::Sock => FileType::Sock,
        }
    }
}

/// An inode; its number is its index in [`Tree::nodes`] plus one.
#[derive(Clone, Debug)]
pub struct Node {
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
    /// Nanoseconds of the modification time.
    pub mtime_nsec: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links within the tree (a directory: two and one for each subdirectory).
    pub nlink: u32,
    /// Index into [`Tree::xattr_sets`].
    pub xattrs: u32,
    /// Directory of the first name that was met.
    pub parent: u32,
    /// That name.
    pub name: Text,
    /// Permission bits, 0o7777.
    pub permissions: u16,
    /// Type and content.
    pub body: Body,
}

/// A scanned directory tree.
#[derive(Debug, Default)]
pub struct Tree {
    /// Inodes by number, the root first.
    pub nodes: Vec<Node>,
    /// Entries of all directories.
    pub entries: Vec<Entry>,
    /// Extents of all files.
    pub extents: Vec<Extent>,
    /// Distinct sets of extended attributes; the first one is empty.
    pub xattr_sets: Vec<XattrSet>,
    xattr_index: HashMap<XattrSet, u32>,
    texts: Vec<u8>,
}

impl Tree {
    /// A tree without inodes.
    pub fn new() -> Self {
        Tree {
            xattr_sets: vec![XattrSet::new()],
            xattr_index: HashMap::from([(XattrSet::new(), 0)]),
            ..Tree::default()
        }
    }

    /// The inode `ino`, which must exist.
    pub fn node(&self, ino: u32) -> &Node {
        &self.nodes[ino as usize - 1]
    }

    /// The inode `ino`, which must exist.
    pub fn node_mut(&mut self, ino: u32) -> &mut Node {
        &mut self.nodes[ino as usize - 1]
    }

    /// Adds an inode and returns its number.
    pub fn push(&mut self, node: Node) -> Result<u32> {
        self.nodes.push(node);
        u32::try_from(self.nodes.len()).context("more than 2^32 inodes")
    }

    /// Inode numbers in use, ascending.
    pub fn inos(&self) -> impl Iterator<Item = u32> {
        // push() made sure that the count fits.
        1..=self.nodes.len() as u32
    }

    /// Keeps `bytes` in the arena.
    pub fn intern(&mut self, bytes: &[u8]) -> Result<Text> {
        let text = Text {
            start: u32::try_from(self.texts.len()).context("more than 4 GiB of names")?,
            len: u16::try_from(bytes.len()).context("a name of more than 64 KiB")?,
        };
        self.texts.extend_from_slice(bytes);
        Ok(text)
    }

    /// The bytes of a name or symlink target.
    pub fn text(&self, text: Text) -> &[u8] {
        let start = text.start as usize;
        &self.texts[start..start + usize::from(text.len)]
    }

    /// Index of an equal set of extended attributes, which is kept if it is new.
    pub fn intern_xattrs(&mut self, set: XattrSet) -> Result<u32> {
        if let Some(&index) = self.xattr_index.get(&set) {
            return Ok(index);
        }
        let index = u32::try_from(self.xattr_sets.len()).context("more than 2^32 xattr sets")?;
        self.xattr_sets.push(set.clone());
        self.xattr_index.insert(set, index);
        Ok(index)
    }

    /// Entries of a directory.
    pub fn entries(&self, span: Span) -> &[Entry] {
        span.of(&self.entries)
    }

    /// Extents of a file.
    pub fn extents(&self, span: Span) -> &[Extent] {
        span.of(&self.extents)
    }

    /// Sorts the entries from `start` on by name, and closes the list.
    pub fn sort_entries(&mut self, start: usize) -> Result<Span> {
        let texts = &self.texts;
        let name = |e: &Entry| {
            let at = e.name.start as usize;
            &texts[at..at + usize::from(e.name.len)]
        };
        self.entries[start..].sort_unstable_by(|a, b| name(a).cmp(name(b)));
        Span::since(&self.entries, start)
    }

    /// Path of an inode from the root, by the first name that was met; `.` for the root.
    pub fn path(&self, ino: u32) -> PathBuf {
        let mut names = Vec::new();
        let mut at = ino;
        while at != ROOT_INO {
            let node = self.node(at);
            names.push(self.text(node.name));
            at = node.parent;
        }
        if names.is_empty() {
            names.push(b".");
        }
        names.reverse();
        PathBuf::from(OsString::from_vec(names.join(&b'/')))
    }

    /// Sum of the sizes of all files, in bytes.
    pub fn data_size(&self) -> Result<u64> {
        let mut sum = 0u64;
        for node in &self.nodes {
            if let Body::File { size, .. } = node.body {
                sum = sum.checked_add(size).context("more than 2^64 bytes")?;
            }
        }
        ensure!(i64::try_from(sum).is_ok(), "more than 2^63 bytes of files");
        Ok(sum)
    }
}
