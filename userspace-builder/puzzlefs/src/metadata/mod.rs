// SPDX-License-Identifier: Apache-2.0
//! Writing the Rootfs blob: the Cap'n Proto message of schema/metadata.capnp.
//!
//! One segment, so that readers follow no far pointers: the digests of all chunks, each
//! once; then for each metadata vector its inodes side by side, and after them what
//! belongs to each, in the same order. Sizes are computed first, the bytes written then.
//!
//! - this file: the message;
//! - `record`: an inode, from a tree or from a base image;
//! - `inode`: writing one, with all that belongs to it; `sizes`: words of each struct;
//! - [`delta`]: which inodes differ from those of a base image;
//! - `segment`: words and pointers of Cap'n Proto;
//! - `blocks`: the message in chunks.

pub(crate) mod blocks;
pub mod delta;
mod inode;
mod record;
mod segment;
mod sizes;

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, Digest, VERSION_BASE, VERSION_HOLES, VERSION_LZ4};

use crate::chunks::codec::Codec;
use crate::encode::pipeline::Stored;
use crate::metadata::delta::Delta;
use crate::tree::{Extent, Tree, ROOT_INO};
use inode::{additional_words, member_words, write_additional, write_inode, write_member, Out};
use record::{Record, Sources};
use segment::{bytes, Segment};
use sizes::{digest_at, DIGEST, INODE, INODE_VECTOR, ROOTFS, VERITY_DATA};

/// What the message is made of.
pub struct Metadata<'a> {
    tree: &'a Tree,
    chunks: &'a [Stored],
    delta: Option<&'a Delta<'a>>,
    /// The inodes of each vector, if the tree has several.
    kept: Vec<Vec<u32>>,
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
    /// The metadata of `tree`, stored as `chunks`; with a delta on top of its base. Or with a vector for
    /// each of its layers that has any inode: `layers` says for each inode in which one it is, and has the
    /// uppermost one first.
    pub fn new(
        tree: &'a Tree,
        chunks: &'a [Stored],
        delta: Option<&'a Delta<'a>>,
        layers: Option<&[u32]>,
    ) -> Result<Self> {
        let mut kept = BTreeMap::<u32, Vec<u32>>::new();
        for (ino, layer) in tree.inos().zip(layers.unwrap_or_default()) {
            kept.entry(*layer).or_default().push(ino);
        }
        let sources = Sources::new(tree, chunks, delta)?;
        let verity = (0..).zip(chunks);
        let verity = verity
            .filter_map(|(at, chunk)| Some((chunk.digest, (at, chunk.verity?))))
            .collect();
        let mut this = Metadata {
            tree,
            chunks,
            delta,
            kept: kept.into_values().collect(),
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
            let count = self.kept.len();
            ensure!(
                count <= limits::MAX_LAYERS as usize,
                "it has {count} layers, and an image has at most {}: convert without --keep-layers",
                limits::MAX_LAYERS
            );
            return Ok(u32::try_from(count.max(1))?);
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
            (None, _) => match self.kept.get(vector as usize) {
                Some(kept) => kept.len(),
                None => self.tree.nodes.len(),
            },
        })
    }

    /// Calls `each` with the records of a vector, in order of their numbers.
    fn each(&self, vector: u32, mut each: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        let Some(delta) = self.delta else {
            let mut each = |ino| each(&self.sources.of_tree(ino));
            return match self.kept.get(vector as usize) {
                Some(kept) => kept.iter().copied().try_for_each(each),
                None => self.tree.inos().try_for_each(&mut each),
            };
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
