// SPDX-License-Identifier: Apache-2.0
//! Writing the Rootfs blob: a tree as the Cap'n Proto message of schema/metadata.capnp.

use std::io::Write;

use anyhow::{ensure, Context, Result};
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::serialize;
use capnp::traits::HasStructSize;
use puzzlefs_format::{limits, Digest};

use crate::content::Stored;
use crate::delta::Delta;
use crate::metadata_capnp::{
    blk, blob_ref, chr, dir, dir_entry, file_chunk, inode, inode_additional, inode_vector, rootfs,
    verity_data, xattr,
};
use crate::tree::{Body, Extent, Tree};
use crate::verity::VerityMap;

/// Manifest version that upstream PuzzleFS 0.2.0 reads.
pub const VERSION: u64 = 3;
/// The version that has holes.
const VERSION_HOLES: u64 = 4;

/// What the message is made of.
pub struct Metadata<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// What [`Extent::chunk`] counts.
    pub chunks: &'a [Stored],
    /// How the tree is recorded on top of a base; without, all of it is.
    pub delta: Option<&'a Delta<'a>>,
}

impl Metadata<'_> {
    /// Writes the message to `out`.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let verity: VerityMap = self
            .chunks
            .iter()
            .filter_map(|chunk| Some((chunk.digest, chunk.verity?)))
            .collect();
        let base = self.delta.map(|delta| delta.base().rootfs_bytes());
        let words = self.estimate(&verity) + bytes(base.map_or(0, <[u8]>::len));
        ensure!(
            words <= bytes(limits::MAX_ROOTFS_BYTES),
            "the metadata is larger than the format's limit of {} bytes",
            limits::MAX_ROOTFS_BYTES
        );
        // One segment: readers follow no far pointers.
        let allocator = HeapAllocator::new().first_segment_words(u32::try_from(words)?);
        let mut message = Builder::new(allocator);
        let mut root = message.init_root::<rootfs::Builder<'_>>();
        root.set_manifest_version(self.version()?);
        root.set_inode_count(u64::try_from(self.tree.nodes.len())?);
        root.set_data_size(self.tree.data_size()?);
        match self.delta {
            None => {
                let vector = root.reborrow().init_metadatas(1).get(0);
                let mut inodes = vector.init_inodes(u32::try_from(self.tree.nodes.len())?);
                for ino in self.tree.inos() {
                    self.fill(inodes.reborrow().get(ino - 1), ino)?;
                }
            }
            Some(delta) => self.write_delta(root.reborrow(), delta)?,
        }
        if !verity.is_empty() {
            let mut list = root.init_fs_verity_data(u32::try_from(verity.len())?);
            for (index, (digest, measurement)) in (0..).zip(&verity) {
                let mut item = list.reborrow().get(index);
                item.set_digest(digest.as_bytes());
                item.set_verity(measurement);
            }
        }
        serialize::write_message(out, &message).context("writing the Rootfs")
    }

    /// The lowest version whose readers understand the image.
    fn version(&self) -> Result<u64> {
        let holes = self.tree.extents.iter().any(|e| e.chunk == Extent::HOLE);
        let own = if holes { VERSION_HOLES } else { VERSION };
        let base = self.delta.map(|delta| delta.base().rootfs()).transpose()?;
        Ok(base.map_or(own, |base| own.max(base.version())))
    }

    /// The new vector, then the base's.
    fn write_delta(&self, root: rootfs::Builder<'_>, delta: &Delta<'_>) -> Result<()> {
        let bytes = delta.base().rootfs_bytes();
        let mut options = ReaderOptions::new();
        // Each word once: copying must not multiply what a hostile base aliases.
        options.traversal_limit_in_words(Some(bytes.len() / 8 + 1));
        let base = serialize::read_message_from_flat_slice(&mut &bytes[..], options)
            .context("reading the base's Rootfs")?;
        let base = base.get_root::<rootfs::Reader<'_>>()?.get_metadatas()?;

        let records = delta.records();
        // A tree that is the same needs no vector.
        let own = u32::from(!records.is_empty());
        let count = base.len() + own;
        ensure!(
            count <= limits::MAX_LAYERS,
            "the base has {} metadata layers already: build without --base",
            base.len()
        );
        let mut vectors = root.init_metadatas(count);
        if own > 0 {
            let vector = vectors.reborrow().get(0);
            let mut inodes = vector.init_inodes(u32::try_from(records.len())?);
            for (index, &(number, ino)) in (0..).zip(records) {
                let mut inode = inodes.reborrow().get(index);
                match ino {
                    Some(ino) => self.fill(inode, ino)?,
                    None => {
                        inode.set_ino(number);
                        inode.init_mode().set_wht(());
                    }
                }
            }
        }
        for (index, vector) in (own..).zip(base) {
            vectors.set_with_caveats(index, vector)?;
        }
        Ok(())
    }

    fn number(&self, ino: u32) -> u64 {
        self.delta.map_or(ino.into(), |delta| delta.number(ino))
    }

    fn fill(&self, mut inode: inode::Builder<'_>, ino: u32) -> Result<()> {
        let tree = self.tree;
        let node = tree.node(ino);
        inode.set_ino(self.number(ino));
        inode.set_uid(node.uid);
        inode.set_gid(node.gid);
        inode.set_permissions(node.permissions);
        inode.set_mtime(node.mtime);
        inode.set_mtime_nsec(node.mtime_nsec);
        inode.set_nlink(node.nlink);

        let mut mode = inode.reborrow().init_mode();
        let mut target = None;
        match node.body {
            Body::Dir(span) => {
                let entries = tree.entries(span);
                let mut list = mode.init_dir().init_entries(u32::try_from(entries.len())?);
                for (index, entry) in (0..).zip(entries) {
                    let mut item = list.reborrow().get(index);
                    item.set_ino(self.number(entry.ino));
                    item.set_name(tree.text(entry.name));
                }
            }
            Body::File { size, extents } => {
                let extents = tree.extents(extents);
                let mut list = mode.init_file(u32::try_from(extents.len())?);
                for (index, extent) in (0..).zip(extents) {
                    let mut item = list.reborrow().get(index);
                    item.set_len(extent.len);
                    if extent.chunk != Extent::HOLE {
                        let chunk = &self.chunks[extent.chunk as usize];
                        let mut blob = item.init_blob();
                        blob.set_digest(chunk.digest.as_bytes());
                        blob.set_offset(extent.offset.into());
                        blob.set_compressed(chunk.compressed);
                    }
                }
                inode.set_size(size);
            }
            Body::Symlink(text) => {
                mode.set_lnk(());
                target = Some(tree.text(text));
            }
            Body::Chr(major, minor) => {
                let mut device = mode.init_chr();
                device.set_major(major.into());
                device.set_minor(minor.into());
            }
            Body::Blk(major, minor) => {
                let mut device = mode.init_blk();
                device.set_major(major.into());
                device.set_minor(minor.into());
            }
            Body::Fifo => mode.set_fifo(()),
            Body::Sock => mode.set_sock(()),
        }

        let xattrs = &tree.xattr_sets[node.xattrs as usize];
        if target.is_some() || !xattrs.is_empty() {
            let mut additional = inode.init_additional();
            if let Some(target) = target {
                additional.set_symlink_target(target);
            }
            if !xattrs.is_empty() {
                let mut list = additional.init_xattrs(u32::try_from(xattrs.len())?);
                for (index, (key, value)) in (0..).zip(xattrs) {
                    let mut item = list.reborrow().get(index);
                    item.set_key(key);
                    item.set_val(value);
                }
            }
        }
        Ok(())
    }

    /// Words of the message, as the encoding specification lays it out.
    fn estimate(&self, verity: &VerityMap) -> u64 {
        let tree = self.tree;
        fn size<T: HasStructSize>() -> u64 {
            T::STRUCT_SIZE.total().into()
        }
        // A list of structs has a tag word.
        let list = |count: usize, each: u64| 1 + count as u64 * each;

        let digest = bytes(Digest::BYTES);
        let mut words = 1
            + size::<rootfs::Builder<'_>>()
            + list(1, size::<inode_vector::Builder<'_>>())
            + list(tree.nodes.len(), size::<inode::Builder<'_>>())
            + list(
                verity.len(),
                size::<verity_data::Builder<'_>>() + 2 * digest,
            );
        for node in &tree.nodes {
            words += match node.body {
                Body::Dir(span) => {
                    let entries = tree.entries(span);
                    size::<dir::Builder<'_>>()
                        + list(entries.len(), size::<dir_entry::Builder<'_>>())
                        + entries
                            .iter()
                            .map(|e| bytes(tree.text(e.name).len()))
                            .sum::<u64>()
                }
                Body::File { extents, .. } => {
                    let each = size::<file_chunk::Builder<'_>>()
                        + size::<blob_ref::Builder<'_>>()
                        + digest;
                    list(tree.extents(extents).len(), each)
                }
                Body::Symlink(text) => {
                    size::<inode_additional::Builder<'_>>() + bytes(tree.text(text).len())
                }
                Body::Chr(..) => size::<chr::Builder<'_>>(),
                Body::Blk(..) => size::<blk::Builder<'_>>(),
                Body::Fifo | Body::Sock => 0,
            };
            let xattrs = &tree.xattr_sets[node.xattrs as usize];
            if !xattrs.is_empty() {
                words += size::<inode_additional::Builder<'_>>()
                    + list(xattrs.len(), size::<xattr::Builder<'_>>());
                words += xattrs
                    .iter()
                    .map(|(k, v)| bytes(k.len()) + bytes(v.len()))
                    .sum::<u64>();
            }
        }
        words
    }
}

/// Words that a byte string takes.
fn bytes(len: usize) -> u64 {
    (len as u64).div_ceil(8)
}
