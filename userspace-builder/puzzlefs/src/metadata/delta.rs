// SPDX-License-Identifier: Apache-2.0
//! Delta builds: what of a tree is new or different compared with a base image.
//!
//! The result is one more metadata vector in front of the base's: changed and new
//! inodes, and whiteouts for those that are gone. An inode keeps the number that its
//! path has in the base, so that unchanged inodes need no record. FORMAT.md, "Layers".

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use puzzlefs_format::{Digest, Dir, Inode, Kind, Rootfs, Xattrs, ROOT_INO as FORMAT_ROOT_INO};
use roaring::RoaringTreemap;

use crate::encode::pipeline::Stored;
use crate::image::Image;
use crate::tree::{Body, Extent, Node, Tree, ROOT_INO};

/// A record of a metadata vector: a number, and the tree's inode or a whiteout.
pub type Record = (u64, Option<u32>);

/// How a tree is recorded on top of a base.
pub struct Delta<'a> {
    base: &'a Image,
    /// Numbers in the image of the tree's inodes.
    numbers: Vec<u64>,
    records: Vec<Record>,
}

impl<'a> Delta<'a> {
    /// Compares `tree`, stored as `chunks`, with `base`.
    pub fn new(tree: &Tree, chunks: &[Stored], base: &'a Image) -> Result<Self> {
        let rootfs = base.rootfs()?;
        let Live {
            inos: mut gone,
            last,
        } = live(base, &rootfs).context("reading the base")?;
        let numbers = number(tree, base, &rootfs, last).context("reading the base")?;
        let mut records = Vec::new();
        for ino in tree.inos() {
            let number = numbers[ino as usize - 1];
            let unchanged = match rootfs.inode(number)? {
                Some(old) => {
                    gone.remove(number);
                    Comparison {
                        tree,
                        chunks,
                        numbers: &numbers,
                    }
                    .same(tree.node(ino), &old)?
                }
                None => false,
            };
            if !unchanged {
                records.push((number, Some(ino)));
            }
        }
        records.extend(gone.into_iter().map(|ino| (ino, None)));
        records.sort_unstable();
        Ok(Delta {
            base,
            numbers,
            records,
        })
    }

    /// Charges the base with a record that is written anew: each of its lists is gone through
    /// several times, and shared ones are not shared any more.
    pub fn charge(&self, inode: &Inode<'_>, xattrs: &Xattrs<'_>) -> Result<()> {
        let work = self.base.work();
        work.xattrs(xattrs)?;
        match inode.kind()? {
            Kind::File(extents) => (0..8).try_for_each(|_| work.extents(&extents)),
            Kind::Dir(dir) => work.entries(&dir),
            _ => Ok(()),
        }
    }

    /// The base image.
    pub fn base(&self) -> &'a Image {
        self.base
    }

    /// The distinct chunks that the base's records refer to, in order of their digests.
    pub fn base_digests(&self) -> Result<BTreeSet<Digest>> {
        let rootfs = self.base.rootfs()?;
        let mut digests = BTreeSet::new();
        for layer in 0..rootfs.layers() {
            let vector = rootfs.vector(layer)?;
            self.base.work().inodes(vector.len())?;
            for index in 0..vector.len() {
                let Some(inode) = vector.get(index)? else {
                    continue;
                };
                if let Kind::File(extents) = inode.kind()? {
                    self.base.work().extents(&extents)?;
                    for extent in extents.iter() {
                        digests.extend(extent?.chunk.map(|chunk| chunk.digest));
                    }
                }
            }
        }
        Ok(digests)
    }

    /// Number in the image of the tree's inode `ino`.
    pub fn number(&self, ino: u32) -> u64 {
        self.numbers[ino as usize - 1]
    }

    /// The new vector, in order of the numbers.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

struct Live {
    inos: RoaringTreemap,
    /// The largest number of all, removed inodes included.
    last: u64,
}

/// The base's inodes that no whiteout hides.
fn live(base: &Image, rootfs: &Rootfs<'_>) -> Result<Live> {
    let mut live = Live {
        inos: RoaringTreemap::new(),
        last: FORMAT_ROOT_INO,
    };
    for layer in 0..rootfs.layers() {
        let vector = rootfs.vector(layer)?;
        for index in 0..vector.len() {
            base.work().search()?;
            let ino = vector.ino(index)?;
            live.last = live.last.max(ino);
            if rootfs.inode(ino)?.is_some() {
                live.inos.insert(ino);
            }
        }
    }
    Ok(live)
}

/// Numbers for the tree's inodes: those of the same paths in the base, or new ones
/// after `last`. Of several inodes that would get the same number (hard links that
/// have been separated) the first one gets it.
fn number(tree: &Tree, image: &Image, rootfs: &Rootfs<'_>, mut last: u64) -> Result<Vec<u64>> {
    let mut numbers = vec![0; tree.nodes.len()];
    // Of directories to come: the directory at the same path in the base.
    let mut same_path = HashMap::from([(ROOT_INO, rootfs.root()?)]);
    let mut taken = RoaringTreemap::from([FORMAT_ROOT_INO]);
    numbers[ROOT_INO as usize - 1] = FORMAT_ROOT_INO;
    // A directory has a smaller number than what is in it.
    for dir in tree.inos() {
        let Body::Dir(span) = tree.node(dir).body else {
            continue;
        };
        let base = match same_path.remove(&dir).map(|old| old.kind()).transpose()? {
            Some(Kind::Dir(dir)) => {
                image.work().entries(&dir)?;
                Some(dir)
            }
            _ => None,
        };
        let names = base.map(|dir| Names::of(rootfs, dir)).transpose()?;
        for entry in tree.entries(span) {
            let index = entry.ino as usize - 1;
            if numbers[index] != 0 {
                continue;
            }
            if let Some(names) = &names {
                let old = names.find(rootfs, tree.text(entry.name))?;
                numbers[index] = old
                    .map(|old| old.ino())
                    .filter(|&n| taken.insert(n))
                    .unwrap_or(0);
                if let (Some(old), Body::Dir(_)) = (old, tree.node(entry.ino).body) {
                    same_path.insert(entry.ino, old);
                }
            }
            if numbers[index] == 0 {
                last = last.checked_add(1).context("no inode number is left")?;
                numbers[index] = last;
            }
        }
    }
    Ok(numbers)
}

/// The names of a directory of the base. To look for each in one that is not sorted would be to
/// go through all for each.
enum Names<'a> {
    Sorted(Dir<'a>),
    Unsorted(HashMap<&'a [u8], u64>),
}

impl<'a> Names<'a> {
    fn of(rootfs: &Rootfs<'a>, dir: Dir<'a>) -> Result<Self> {
        if dir.is_sorted()? {
            return Ok(Names::Sorted(dir));
        }
        let mut names = HashMap::new();
        let mut live = rootfs.live_entries(&dir);
        for index in 0..dir.len() {
            if let Some((entry, inode)) = live.get(index)? {
                names.entry(entry.name).or_insert(inode.ino());
            }
        }
        Ok(Names::Unsorted(names))
    }

    fn find(&self, rootfs: &Rootfs<'a>, name: &[u8]) -> Result<Option<Inode<'a>>> {
        Ok(match self {
            Names::Sorted(dir) => rootfs.lookup(dir, name, true)?,
            Names::Unsorted(names) => match names.get(name) {
                Some(ino) => rootfs.inode(*ino)?,
                None => None,
            },
        })
    }
}

struct Comparison<'a> {
    tree: &'a Tree,
    chunks: &'a [Stored],
    numbers: &'a [u64],
}

impl Comparison<'_> {
    /// Whether the base's record says the same of an inode.
    fn same(&self, new: &Node, old: &Inode<'_>) -> Result<bool> {
        let mtime = old.mtime();
        Ok(new.permissions == old.permissions()
            && (new.uid, new.gid) == (old.uid(), old.gid())
            && (new.mtime, new.mtime_nsec) == (mtime.sec, mtime.nsec)
            && Some(new.nlink) == old.nlink()
            && self.same_xattrs(new, old)?
            && self.same_body(&new.body, old.kind()?)?)
    }

    fn same_xattrs(&self, new: &Node, old: &Inode<'_>) -> Result<bool> {
        let new = &self.tree.xattr_sets[new.xattrs as usize];
        let old = old.xattrs()?;
        if u32::try_from(new.len()) != Ok(old.len()) {
            return Ok(false);
        }
        for (index, (name, value)) in (0..).zip(new) {
            let item = old.get(index)?;
            if (item.name, item.value) != (name, value) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_body(&self, new: &Body, old: Kind<'_>) -> Result<bool> {
        Ok(match (*new, old) {
            (Body::Dir(span), Kind::Dir(old)) => {
                let new = self.tree.entries(span);
                if u32::try_from(new.len()) != Ok(old.len()) {
                    return Ok(false);
                }
                for (index, new) in (0..).zip(new) {
                    let old = old.entry(index)?;
                    let number = self.numbers[new.ino as usize - 1];
                    // The number of a path stays, whatever is there now.
                    let file_type = self.tree.node(new.ino).body.file_type();
                    if (old.ino, old.name) != (number, self.tree.text(new.name))
                        || old.file_type.is_some_and(|old| old != file_type)
                    {
                        return Ok(false);
                    }
                }
                true
            }
            (Body::File { size, extents }, Kind::File(old)) => {
                let new = self.tree.extents(extents);
                if u32::try_from(new.len()) != Ok(old.len()) || old.recorded() != Some(size) {
                    return Ok(false);
                }
                for (index, new) in (0..).zip(new) {
                    if !self.same_extent(new, &old.get(index)?) {
                        return Ok(false);
                    }
                }
                true
            }
            (Body::Symlink(new), Kind::Symlink(old)) => self.tree.text(new) == old,
            (Body::Chr(major, minor), Kind::Chr(old))
            | (Body::Blk(major, minor), Kind::Blk(old)) => (major, minor) == (old.major, old.minor),
            (Body::Fifo, Kind::Fifo) | (Body::Sock, Kind::Sock) => true,
            _ => false,
        })
    }

    fn same_extent(&self, new: &Extent, old: &puzzlefs_format::Extent) -> bool {
        let chunk = (new.chunk != Extent::HOLE).then(|| {
            let stored = &self.chunks[new.chunk as usize];
            puzzlefs_format::ChunkRef {
                digest: stored.digest,
                offset: new.offset.into(),
                compressed: stored.codec.is_compressed(),
            }
        });
        (chunk, new.len) == (old.chunk, old.len)
    }
}
