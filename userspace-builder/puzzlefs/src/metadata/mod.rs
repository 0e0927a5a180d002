// SPDX-License-Identifier: Apache-2.0
//! Writing the Rootfs blob: the Cap'n Proto message of schema/metadata.capnp.
//!
//! One segment, so that readers follow no far pointers: the digests of all chunks, each
//! once; then for each metadata vector its inodes side by side, and after them what
//! belongs to each, in the same order. Sizes are computed first, the bytes written then.
//!
//! - this file: the message;
//! - `record`: an inode, from a tree or from a base image;
//! - [`delta`]: which inodes differ from those of a base image;
//! - `segment`: words and pointers of Cap'n Proto;
//! - `blocks`: the message in chunks.

pub(crate) mod blocks;
pub mod delta;
mod record;
mod segment;

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, Digest, VERSION_BASE, VERSION_BLOCKS, VERSION_HOLES, VERSION_LZ4};

use crate::encode::compress::Codec;
use crate::encode::pipeline::Stored;
use crate::metadata::delta::Delta;
use crate::metadata::record::{Entries, Extents, Member, Record, Sources};
use crate::metadata::segment::{bytes, Layout, Segment};
use crate::tree::{Extent, Tree, ROOT_INO};

// Structs of the schema, as capnp lays them out (`capnp compile -ocapnp`).
const ROOTFS: Layout = Layout {
    data: 3,
    pointers: 2,
};
const VERITY_DATA: Layout = Layout {
    data: 0,
    pointers: 2,
};
const INODE_VECTOR: Layout = Layout {
    data: 0,
    pointers: 1,
};
pub(crate) const INODE: Layout = Layout {
    data: 6,
    pointers: 2,
};
pub(crate) const ADDITIONAL: Layout = Layout {
    data: 0,
    pointers: 2,
};
const XATTR: Layout = Layout {
    data: 0,
    pointers: 2,
};
const DEVICE: Layout = Layout {
    data: 2,
    pointers: 0,
};
const DIR: Layout = Layout {
    data: 1,
    pointers: 1,
};
const DIR_ENTRY: Layout = Layout {
    data: 1,
    pointers: 1,
};
pub(crate) const FILE_CHUNK: Layout = Layout {
    data: 1,
    pointers: 1,
};
pub(crate) const BLOB_REF: Layout = Layout {
    data: 2,
    pointers: 1,
};

/// Words of a digest.
pub(crate) const DIGEST: u64 = bytes(Digest::BYTES);

pub(crate) type Out<'a> = Segment<&'a mut dyn Write>;

/// What the message is made of.
pub struct Metadata<'a> {
    tree: &'a Tree,
    chunks: &'a [Stored],
    delta: Option<&'a Delta<'a>>,
    sources: Sources<'a>,
    verity: Verity,
    /// Of each metadata vector its number of inodes, and its words.
    vectors: Vec<(usize, u64)>,
    /// Words of the segment.
    words: u64,
}

/// Digests, with their place in the table and their fs-verity digest.
type Verity = BTreeMap<Digest, (u64, [u8; 32])>;

impl<'a> Metadata<'a> {
    /// The metadata of `tree`, stored as `chunks`; with a delta on top of its base.
    pub fn new(tree: &'a Tree, chunks: &'a [Stored], delta: Option<&'a Delta<'a>>) -> Result<Self> {
        let sources = Sources::new(tree, chunks, delta)?;
        let verity = (0..).zip(chunks);
        let verity = verity
            .filter_map(|(at, chunk)| Some((chunk.digest, (at, chunk.verity?))))
            .collect();
        let mut this = Metadata {
            tree,
            chunks,
            delta,
            sources,
            verity,
            vectors: Vec::new(),
            words: 0,
        };
        let vectors = (0..this.count()?).map(|v| Ok((this.len(v)?, this.size(v)?)));
        this.vectors = vectors.collect::<Result<_>>()?;
        let verity = this.verity.len();
        this.words = this.verity_list() + VERITY_DATA.list(verity) + DIGEST * verity as u64;
        ensure!(
            this.words <= bytes(limits::MAX_ROOTFS_BYTES - 8),
            "the metadata is larger than the format's limit of {} bytes",
            limits::MAX_ROOTFS_BYTES
        );
        Ok(this)
    }

    /// Bytes of the message.
    pub fn bytes(&self) -> u64 {
        8 * (1 + self.words)
    }

    /// The root directory.
    pub fn root(&self) -> Record<'_> {
        self.sources.of_tree(ROOT_INO)
    }

    /// The word where the list of vectors begins.
    fn list(&self) -> u64 {
        digest_at(self.sources.digests().len() as u64)
    }

    /// The word where the list of fs-verity digests begins, behind the vectors.
    fn verity_list(&self) -> u64 {
        let vectors = self.vectors.iter().map(|(_, size)| size);
        self.list() + INODE_VECTOR.list(self.vectors.len()) + vectors.sum::<u64>()
    }

    /// Writes the message to `out`, with [`Self::version`] or a later one.
    pub fn write(&self, version: u64, out: &mut dyn Write) -> Result<()> {
        let (vectors, verity) = (&self.vectors, &self.verity);
        let mut out = Segment::begin(out, self.words)?;
        out.pointer(1, ROOTFS)?;
        out.word(version)?;
        out.word(u64::try_from(self.tree.nodes.len())?)?;
        out.word(self.tree.data_size()?)?;
        out.list_pointer(self.list(), INODE_VECTOR, vectors.len())?;
        out.list_pointer(self.verity_list(), VERITY_DATA, verity.len())?;
        for digest in self.sources.digests() {
            out.bytes(digest.as_bytes())?;
        }
        out.tag(INODE_VECTOR, vectors.len())?;
        let mut at = self.list() + INODE_VECTOR.list(vectors.len());
        for (len, size) in vectors {
            out.list_pointer(at, INODE, *len)?;
            at += size;
        }
        for (vector, (len, _)) in (0..).zip(vectors) {
            self.write_vector(&mut out, vector, *len, version)?;
        }
        write_verity(&mut out, verity)?;
        ensure!(
            out.at() == self.words,
            "the Rootfs is not as large as computed"
        );
        Ok(())
    }

    /// The lowest version whose readers understand the message.
    pub fn version(&self) -> Result<u64> {
        let holes = self.tree.extents.iter().any(|e| e.chunk == Extent::HOLE);
        let lz4 = self.chunks.iter().any(|chunk| chunk.codec == Codec::Lz4);
        let own = match (lz4, holes) {
            (true, _) => VERSION_LZ4,
            (false, true) => VERSION_HOLES,
            (false, false) => VERSION_BASE,
        };
        let base = self.delta.map(|delta| delta.base().rootfs()).transpose()?;
        // Being in blocks is nothing that a base would pass on.
        Ok(base.map_or(own, |base| own.max(base.version().min(VERSION_LZ4))))
    }

    /// Number of metadata vectors: the new one first, if it has any inodes, then the base's.
    fn count(&self) -> Result<u32> {
        let Some(delta) = self.delta else {
            return Ok(1);
        };
        let count = self.own_vectors() + delta.base().rootfs()?.layers();
        ensure!(
            count <= limits::MAX_LAYERS,
            "the base has {} metadata layers already: build without --base",
            limits::MAX_LAYERS
        );
        Ok(count)
    }

    fn own_vectors(&self) -> u32 {
        u32::from(self.delta.is_none_or(|delta| !delta.records().is_empty()))
    }

    /// Number of inodes of a vector.
    fn len(&self, vector: u32) -> Result<usize> {
        Ok(match (self.delta, vector.checked_sub(self.own_vectors())) {
            (Some(delta), Some(layer)) => delta.base().rootfs()?.vector(layer)?.len() as usize,
            (Some(delta), None) => delta.records().len(),
            (None, _) => self.tree.nodes.len(),
        })
    }

    /// Calls `each` with the records of a vector, in order of their numbers.
    fn each(&self, vector: u32, mut each: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        let Some(delta) = self.delta else {
            return self
                .tree
                .inos()
                .try_for_each(|ino| each(&self.sources.of_tree(ino)));
        };
        let Some(layer) = vector.checked_sub(self.own_vectors()) else {
            return delta
                .records()
                .iter()
                .try_for_each(|&(number, ino)| match ino {
                    Some(ino) => each(&self.sources.of_tree(ino)),
                    None => each(&Sources::whiteout(number)),
                });
        };
        let base = delta.base().rootfs()?.vector(layer)?;
        for index in 0..base.len() {
            match base.get(index)? {
                Some(inode) => each(&self.sources.of_base(&inode)?)?,
                None => each(&Sources::whiteout(base.ino(index)?))?,
            }
        }
        Ok(())
    }

    /// Words of a vector.
    fn size(&self, vector: u32) -> Result<u64> {
        let mut words = INODE.list(self.len(vector)?);
        self.each(vector, |record| {
            words += member_words(&record.member)? + additional_words(record)?;
            Ok(())
        })?;
        Ok(words)
    }

    fn write_vector(&self, out: &mut Out<'_>, vector: u32, len: usize, version: u64) -> Result<()> {
        let mut at = out.at() + INODE.list(len);
        out.tag(INODE, len)?;
        self.each(vector, |record| {
            write_inode(out, record, at, version)?;
            at += member_words(&record.member)? + additional_words(record)?;
            Ok(())
        })?;
        self.each(vector, |record| {
            write_member(out, &record.member).context("writing the Rootfs")?;
            write_additional(out, record).context("writing the Rootfs")
        })
    }
}

/// Where the table of digests has the one at `index`.
const fn digest_at(index: u64) -> u64 {
    1 + ROOTFS.words() + DIGEST * index
}

/// Words of what an inode's first pointer leads to.
fn member_words(member: &Member<'_>) -> Result<u64> {
    Ok(match member {
        Member::Dir(entries) if entries.len() == 0 => 0,
        Member::Dir(entries) => {
            let names = entries.iter().map(|entry| Ok(bytes(entry?.1.len())));
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
fn additional_words(record: &Record<'_>) -> Result<u64> {
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
pub(crate) fn write_data(out: &mut Out<'_>, record: &Record<'_>, version: u64) -> Result<()> {
    // The union's discriminant, in order of the schema.
    let (mode, size) = match &record.member {
        Member::Fifo => (1, 0),
        Member::Chr(..) => (2, 0),
        Member::Dir(entries) => (3, entries.len() as u64),
        Member::Blk(..) => (4, 0),
        Member::File(_, size) => (5, *size),
        Member::Symlink(_) => (6, 0),
        Member::Sock => (7, 0),
        Member::Whiteout => (8, 0),
    };
    out.word(record.ino)?;
    let sparse = match &record.member {
        Member::File(extents, _) if version >= VERSION_BLOCKS => extents.have_holes()?,
        _ => false,
    };
    let permissions = record.permissions | (u16::from(sparse) << 15);
    out.word(mode | (u64::from(permissions) << 16) | (u64::from(record.uid) << 32))?;
    out.word(u64::from(record.gid) | (u64::from(record.mtime_nsec) << 32))?;
    out.word(u64::from_le_bytes(record.mtime.to_le_bytes()))?;
    out.word(u64::from(record.nlink) | (u64::from(record.parent) << 32))?;
    Ok(out.word(size)?)
}

/// Writes an Inode; what belongs to it begins at the word `at`.
fn write_inode(out: &mut Out<'_>, record: &Record<'_>, at: u64, version: u64) -> Result<()> {
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

fn write_member(out: &mut Out<'_>, member: &Member<'_>) -> Result<()> {
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
        let (ino, name) = entry?;
        out.word(ino)?;
        out.bytes_pointer(names, name.len())?;
        names += bytes(name.len());
    }
    entries
        .iter()
        .try_for_each(|entry| Ok(out.bytes(entry?.1)?))
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

fn write_additional(out: &mut Out<'_>, record: &Record<'_>) -> Result<()> {
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

fn write_verity(out: &mut Out<'_>, verity: &Verity) -> io::Result<()> {
    let mut at = out.at() + VERITY_DATA.list(verity.len());
    out.tag(VERITY_DATA, verity.len())?;
    for (index, _) in verity.values() {
        out.bytes_pointer(digest_at(*index), Digest::BYTES)?;
        out.bytes_pointer(at, Digest::BYTES)?;
        at += DIGEST;
    }
    verity
        .values()
        .try_for_each(|(_, measurement)| out.bytes(measurement))
}
