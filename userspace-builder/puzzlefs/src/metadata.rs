// SPDX-License-Identifier: Apache-2.0
//! Writing the Rootfs blob: a tree as the Cap'n Proto message of schema/metadata.capnp.

use std::io::Write;

use anyhow::{ensure, Context, Result};
use capnp::message::{Builder, HeapAllocator};
use capnp::serialize;
use capnp::traits::HasStructSize;
use puzzlefs_format::{limits, Digest};

use crate::content::Stored;
use crate::metadata_capnp::{
    blk, blob_ref, chr, dir, dir_entry, file_chunk, inode, inode_additional, inode_vector, rootfs,
    verity_data, xattr,
};
use crate::tree::{Body, Extent, Node, Tree};
use crate::verity::VerityMap;

/// Manifest version that upstream PuzzleFS 0.2.0 reads.
const VERSION: u64 = 3;
/// The version that has holes.
const VERSION_HOLES: u64 = 4;

/// Writes the message to `out`.
pub fn write(
    tree: &Tree,
    chunks: &[Stored],
    verity: &VerityMap,
    out: &mut dyn Write,
) -> Result<()> {
    let words = estimate(tree, verity);
    ensure!(
        words
            .checked_mul(8)
            .is_some_and(|bytes| bytes <= limits::MAX_ROOTFS_BYTES as u64),
        "the metadata is larger than the format's limit of {} bytes",
        limits::MAX_ROOTFS_BYTES
    );
    // One segment: readers follow no far pointers.
    let allocator = HeapAllocator::new().first_segment_words(u32::try_from(words)?);
    let mut message = Builder::new(allocator);
    let mut root = message.init_root::<rootfs::Builder<'_>>();
    let holes = tree.extents.iter().any(|e| e.chunk == Extent::HOLE);
    root.set_manifest_version(if holes { VERSION_HOLES } else { VERSION });
    root.set_inode_count(u64::try_from(tree.nodes.len())?);
    root.set_data_size(tree.data_size()?);

    let vector = root.reborrow().init_metadatas(1).get(0);
    let mut inodes = vector.init_inodes(u32::try_from(tree.nodes.len())?);
    for ino in tree.inos() {
        fill(
            inodes.reborrow().get(ino - 1),
            ino,
            tree.node(ino),
            tree,
            chunks,
        )?;
    }
    if !verity.is_empty() {
        let mut list = root.init_fs_verity_data(u32::try_from(verity.len())?);
        for (index, (digest, measurement)) in (0..).zip(verity) {
            let mut item = list.reborrow().get(index);
            item.set_digest(digest.as_bytes());
            item.set_verity(measurement);
        }
    }
    serialize::write_message(out, &message).context("writing the Rootfs")
}

fn fill(
    mut inode: inode::Builder<'_>,
    ino: u32,
    node: &Node,
    tree: &Tree,
    chunks: &[Stored],
) -> Result<()> {
    inode.set_ino(ino.into());
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
                item.set_ino(entry.ino.into());
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
                    let chunk = &chunks[extent.chunk as usize];
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
fn estimate(tree: &Tree, verity: &VerityMap) -> u64 {
    fn size<T: HasStructSize>() -> u64 {
        T::STRUCT_SIZE.total().into()
    }
    fn bytes(len: usize) -> u64 {
        (len as u64).div_ceil(8)
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
                let each =
                    size::<file_chunk::Builder<'_>>() + size::<blob_ref::Builder<'_>>() + digest;
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
