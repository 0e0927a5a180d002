// SPDX-License-Identifier: GPL-2.0

//! Metadata made for tests: messages, as a whole or in blocks.

use crate::chunk::sha256;
use capnp::message::Builder;
use format_tests::metadata_capnp as wire;
use format_tests::model::{Chunk, Inode, Mode, Rootfs};
use puzzlefs_format::{limits, FileType};

/// An extent of a file: a part of a chunk.
pub fn extent(stored: &[u8], compressed: bool, offset: u64, len: u64) -> Chunk {
    Chunk {
        blob: Some((sha256(stored), offset, compressed)),
        len,
    }
}

/// A hole.
pub fn hole(len: u64) -> Chunk {
    Chunk { blob: None, len }
}

/// An inode of no one in particular.
pub fn inode(ino: u64, mode: Mode) -> Inode {
    Inode {
        ino,
        mode,
        uid: 0,
        gid: 0,
        permissions: 0o644,
        xattrs: Vec::new(),
        mtime: (0, 0),
        nlink: 1,
        parent: 1,
    }
}

/// An image of `version` whose root directory has these files: their numbers begin with 2.
pub fn files(version: u64, files: Vec<Vec<Chunk>>) -> Rootfs {
    let names = (2..)
        .zip(&files)
        .map(|(ino, _)| (ino, format!("f{ino:05}").into_bytes(), Some(FileType::File)));
    let mut inodes = vec![inode(1, Mode::Dir(names.collect()))];
    for (ino, chunks) in (2..).zip(files) {
        inodes.push(inode(ino, Mode::File(chunks, true)));
    }
    Rootfs {
        version,
        inode_count: inodes.len() as u64,
        vectors: vec![inodes],
        verity: Vec::new(),
        data_size: 0,
    }
}

/// Metadata in blocks: the blob that says where they are, and the blocks.
pub fn in_blocks(message: &[u8], version: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let blocks: Vec<Vec<u8>> = message
        .chunks(limits::BLOCK_BYTES as usize)
        .map(<[u8]>::to_vec)
        .collect();
    let chunks: Vec<Chunk> = blocks
        .iter()
        .map(|block| extent(block, false, 0, block.len() as u64))
        .collect();
    (blob(&chunks, version), blocks)
}

/// The blob that says that metadata is in these chunks.
pub fn blob(blocks: &[Chunk], version: u64) -> Vec<u8> {
    let mut message = Builder::new_default();
    let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
    rootfs.set_manifest_version(version);
    let mut list = rootfs.init_blocks(blocks.len() as u32);
    for (index, block) in (0..).zip(blocks) {
        let mut to = list.reborrow().get(index);
        to.set_len(block.len);
        if let Some((digest, offset, compressed)) = &block.blob {
            let mut blob = to.init_blob();
            blob.set_digest(digest);
            blob.set_offset(*offset);
            blob.set_compressed(*compressed);
        }
    }
    capnp::serialize::write_message_to_words(&message)
}
