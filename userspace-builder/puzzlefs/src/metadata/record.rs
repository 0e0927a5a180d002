// SPDX-License-Identifier: Apache-2.0
//! What the metadata says of an inode, from either of its sources: a tree that was
//! scanned, or the Rootfs of a base image.

use std::collections::HashMap;

use anyhow::{Context, Result};
use puzzlefs_format::{Digest, DirEntry, FileType, Inode, Kind};

use crate::encode::pipeline::Stored;
use crate::host::xattr::XattrSet;
use crate::metadata::delta::Delta;
use crate::tree::{self, Body, Tree};

/// An inode, with what all types have.
pub struct Record<'a> {
    /// Its number in the image.
    pub ino: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, 0o7777.
    pub permissions: u16,
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
    /// Links; 0 if not recorded.
    pub nlink: u32,
    /// Of a directory: the number of the one that it is in; 0 if not recorded.
    pub parent: u32,
    /// Type and content.
    pub member: Member<'a>,
    /// Extended attributes.
    pub xattrs: Xattrs<'a>,
}

/// The union `mode` of the schema's Inode, and with a symlink its target.
pub enum Member<'a> {
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    Chr(u32, u32),
    /// A directory.
    Dir(Entries<'a>),
    /// A block device: major and minor number.
    Blk(u32, u32),
    /// A regular file and its recorded size.
    File(Extents<'a>, u64),
    /// A symbolic link to a target.
    Symlink(&'a [u8]),
    /// A socket.
    Sock,
    /// No inode: it hides that of a lower layer.
    Whiteout,
}

impl Member<'_> {
    /// What it is; none for a whiteout.
    pub fn file_type(&self) -> Option<FileType> {
        Some(match self {
            Member::Fifo => FileType::Fifo,
            Member::Chr(..) => FileType::Chr,
            Member::Dir(_) => FileType::Dir,
            Member::Blk(..) => FileType::Blk,
            Member::File(..) => FileType::File,
            Member::Symlink(_) => FileType::Symlink,
            Member::Sock => FileType::Sock,
            Member::Whiteout => return None,
        })
    }
}

/// The entries of a directory.
pub enum Entries<'a> {
    /// Of a tree.
    Tree(&'a Sources<'a>, &'a [tree::Entry]),
    /// Of a base.
    Base(puzzlefs_format::Dir<'a>),
}

impl Entries<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Entries::Tree(_, entries) => entries.len(),
            Entries::Base(dir) => dir.len() as usize,
        }
    }

    /// Whether they are in ascending order of their names. Those of a tree are.
    pub fn are_sorted(&self) -> Result<bool> {
        Ok(match self {
            Entries::Tree(..) => true,
            Entries::Base(dir) => dir.is_sorted()?,
        })
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = Result<DirEntry<'_>>> {
        (0..self.len()).map(move |index| match self {
            Entries::Tree(sources, entries) => {
                let entry = entries[index];
                Ok(DirEntry {
                    ino: sources.number(entry.ino),
                    name: sources.tree.text(entry.name),
                    file_type: Some(sources.tree.node(entry.ino).body.file_type()),
                })
            }
            Entries::Base(dir) => Ok(dir.entry(u32::try_from(index)?)?),
        })
    }
}

/// A part of a file: its length, and unless it is a hole where its bytes are.
pub type Extent = (u64, Option<ChunkRef>);

/// A place in a chunk.
pub struct ChunkRef {
    /// Index into [`Sources::digests`].
    pub digest: u32,
    /// Where in the uncompressed chunk.
    pub offset: u64,
    /// Whether the chunk is stored compressed.
    pub compressed: bool,
}

/// The extents of a file.
pub enum Extents<'a> {
    /// Of a tree.
    Tree(&'a Sources<'a>, &'a [tree::Extent]),
    /// Of a base.
    Base(&'a Sources<'a>, puzzlefs_format::Extents<'a>),
}

impl Extents<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Extents::Tree(_, extents) => extents.len(),
            Extents::Base(_, extents) => extents.len() as usize,
        }
    }

    /// Whether any is a hole.
    pub fn have_holes(&self) -> Result<bool> {
        for extent in self.iter() {
            if extent?.1.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = Result<Extent>> + '_ {
        (0..self.len()).map(move |index| match self {
            Extents::Tree(sources, extents) => {
                let extent = extents[index];
                let chunk = (extent.chunk != tree::Extent::HOLE).then(|| ChunkRef {
                    digest: extent.chunk,
                    offset: extent.offset.into(),
                    compressed: sources.chunks[extent.chunk as usize].codec.is_compressed(),
                });
                Ok((extent.len, chunk))
            }
            Extents::Base(sources, extents) => {
                let extent = extents.get(u32::try_from(index)?)?;
                let chunk = extent.chunk.map(|chunk| {
                    let digest = sources.index.get(&chunk.digest).copied();
                    let digest = digest.context("a chunk that the base did not have before")?;
                    anyhow::Ok(ChunkRef {
                        digest,
                        offset: chunk.offset,
                        compressed: chunk.compressed,
                    })
                });
                Ok((extent.len, chunk.transpose()?))
            }
        })
    }
}

/// The extended attributes of an inode.
pub enum Xattrs<'a> {
    /// Of a tree.
    Tree(&'a XattrSet),
    /// Of a base.
    Base(puzzlefs_format::Xattrs<'a>),
    /// None.
    None,
}

impl Xattrs<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Xattrs::Tree(set) => set.len(),
            Xattrs::Base(xattrs) => xattrs.len() as usize,
            Xattrs::None => 0,
        }
    }

    /// All: name and value.
    pub fn iter(&self) -> impl Iterator<Item = Result<(&[u8], &[u8])>> {
        (0..self.len()).map(move |index| match self {
            Xattrs::Tree(set) => Ok((set[index].0.as_slice(), set[index].1.as_slice())),
            Xattrs::Base(xattrs) => {
                let xattr = xattrs.get(u32::try_from(index)?)?;
                Ok((xattr.name, xattr.value))
            }
            Xattrs::None => anyhow::bail!("no extended attribute"),
        })
    }
}

/// Where records come from.
pub struct Sources<'a> {
    tree: &'a Tree,
    chunks: &'a [Stored],
    delta: Option<&'a Delta<'a>>,
    digests: Vec<Digest>,
    /// Of the base's chunks: where in `digests`.
    index: HashMap<Digest, u32>,
}

impl<'a> Sources<'a> {
    /// A tree stored as `chunks`, and maybe a base that it is recorded on top of.
    pub fn new(tree: &'a Tree, chunks: &'a [Stored], delta: Option<&'a Delta<'a>>) -> Result<Self> {
        let mut digests: Vec<Digest> = chunks.iter().map(|chunk| chunk.digest).collect();
        let mut index = HashMap::new();
        if let Some(delta) = delta {
            for (at, digest) in (0..).zip(&digests) {
                index.insert(*digest, at);
            }
            for digest in delta.base_digests()? {
                let at = u32::try_from(digests.len())?;
                index.entry(digest).or_insert_with(|| {
                    digests.push(digest);
                    at
                });
            }
        }
        Ok(Sources {
            tree,
            chunks,
            delta,
            digests,
            index,
        })
    }

    /// The distinct chunks that the records refer to.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    fn number(&self, ino: u32) -> u64 {
        self.delta.map_or(ino.into(), |delta| delta.number(ino))
    }

    /// The tree's inode `ino`.
    pub fn of_tree(&'a self, ino: u32) -> Record<'a> {
        let node = self.tree.node(ino);
        Record {
            ino: self.number(ino),
            uid: node.uid,
            gid: node.gid,
            permissions: node.permissions,
            mtime: node.mtime,
            mtime_nsec: node.mtime_nsec,
            nlink: node.nlink,
            parent: match node.body {
                Body::Dir(_) => u32::try_from(self.number(node.parent)).unwrap_or(0),
                _ => 0,
            },
            member: match node.body {
                Body::Dir(span) => Member::Dir(Entries::Tree(self, self.tree.entries(span))),
                Body::File { size, extents } => {
                    Member::File(Extents::Tree(self, self.tree.extents(extents)), size)
                }
                Body::Symlink(target) => Member::Symlink(self.tree.text(target)),
                Body::Chr(major, minor) => Member::Chr(major, minor),
                Body::Blk(major, minor) => Member::Blk(major, minor),
                Body::Fifo => Member::Fifo,
                Body::Sock => Member::Sock,
            },
            xattrs: Xattrs::Tree(&self.tree.xattr_sets[node.xattrs as usize]),
        }
    }

    /// The base's inode `inode`.
    pub fn of_base(&'a self, inode: &Inode<'a>) -> Result<Record<'a>> {
        let xattrs = inode.xattrs()?;
        if let Some(delta) = self.delta {
            delta.charge(inode, &xattrs)?;
        }
        Ok(Record {
            ino: inode.ino(),
            uid: inode.uid(),
            gid: inode.gid(),
            permissions: inode.permissions(),
            mtime: inode.mtime().sec,
            mtime_nsec: inode.mtime().nsec,
            nlink: inode.nlink().unwrap_or(0),
            parent: inode.parent().unwrap_or(0),
            member: match inode.kind()? {
                Kind::Dir(dir) => Member::Dir(Entries::Base(dir)),
                Kind::File(extents) => {
                    // Upstream records none.
                    let size = match extents.recorded() {
                        Some(size) => size,
                        None => extents.total()?,
                    };
                    Member::File(Extents::Base(self, extents), size)
                }
                Kind::Symlink(target) => Member::Symlink(target),
                Kind::Chr(device) => Member::Chr(device.major, device.minor),
                Kind::Blk(device) => Member::Blk(device.major, device.minor),
                Kind::Fifo => Member::Fifo,
                Kind::Sock => Member::Sock,
            },
            xattrs: Xattrs::Base(xattrs),
        })
    }

    /// A whiteout of inode `ino`.
    pub fn whiteout(ino: u64) -> Record<'a> {
        Record {
            ino,
            uid: 0,
            gid: 0,
            permissions: 0,
            mtime: 0,
            mtime_nsec: 0,
            nlink: 0,
            parent: 0,
            member: Member::Whiteout,
            xattrs: Xattrs::None,
        }
    }
}
