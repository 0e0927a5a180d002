// SPDX-License-Identifier: Apache-2.0
//! A Rootfs in blocks (FORMAT.md, section 3.5): its message in chunks, and a small blob that
//! says which.

use std::io::{self, Write};

use anyhow::{ensure, Result};
use puzzlefs_format::{limits, Digest, VERSION_BLOCKS};

use crate::encode::pipeline::{Chunks, Feeder};
use crate::image::blocks::BYTES;
use crate::metadata::inode::write_data;
use crate::metadata::record::Record;
use crate::metadata::segment::Segment;
use crate::metadata::sizes::{ADDITIONAL, BLOB_REF, DIGEST, FILE_CHUNK, INODE, ROOTFS_OF_BLOCKS};

/// Cuts what is written into blocks.
pub struct Cutter<'a, 'b> {
    feeder: &'a mut Feeder<'b>,
    block: Vec<u8>,
}

impl<'a, 'b> Cutter<'a, 'b> {
    /// Sends the blocks to `feeder`.
    pub fn new(feeder: &'a mut Feeder<'b>) -> Self {
        let block = Vec::with_capacity(BYTES);
        Cutter { feeder, block }
    }

    /// Sends the last block.
    pub fn finish(mut self) -> Result<()> {
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        let next = Vec::with_capacity(BYTES);
        let block = std::mem::replace(&mut self.block, next);
        match block.is_empty() {
            true => Ok(()),
            false => self.feeder.send(block).map(drop),
        }
    }
}

impl Write for Cutter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..len]);
        if self.block.len() == BYTES {
            self.send().map_err(io::Error::other)?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the Rootfs blob of a message of `size` bytes whose blocks are `chunks`, and whose
/// root directory is `root`.
pub fn write_blob(
    chunks: &Chunks,
    size: u64,
    root: &Record<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let Chunks { list, index, .. } = chunks;
    let blobs = 1 + ROOTFS_OF_BLOCKS.words() + FILE_CHUNK.list(index.len());
    let digests = blobs + BLOB_REF.words() * list.len() as u64;
    let copy = digests + DIGEST * list.len() as u64;
    let words = copy + INODE.words() + ADDITIONAL.words();
    let mut out = Segment::begin(out, words)?;
    out.pointer(1, ROOTFS_OF_BLOCKS)?;
    out.word(VERSION_BLOCKS)?;
    out.null()?; // metadatas
    out.null()?; // fsVerityData
    out.list_pointer(out.at() + 2, FILE_CHUNK, index.len())?;
    out.pointer(copy, INODE)?;
    out.tag(FILE_CHUNK, index.len())?;
    let mut left = size;
    for &chunk in index {
        let len = left.min(limits::BLOCK_BYTES);
        left -= len;
        out.word(len)?;
        out.pointer(blobs + BLOB_REF.words() * u64::from(chunk), BLOB_REF)?;
    }
    for (at, chunk) in (0..).zip(list) {
        out.word(0)?; // Its offset.
        out.word(chunk.codec.is_compressed().into())?;
        out.bytes_pointer(digests + DIGEST * at, Digest::BYTES)?;
    }
    for chunk in list {
        out.bytes(chunk.digest.as_bytes())?;
    }
    write_data(&mut out, root, VERSION_BLOCKS)?;
    out.null()?; // Its entries.
    match root.xattrs.len() {
        0 => out.null()?,
        _ => out.pointer(copy + INODE.words(), ADDITIONAL)?,
    }
    (0..ADDITIONAL.words()).try_for_each(|_| out.null())?;
    ensure!(
        left == 0 && out.at() == words,
        "the blocks are not as large as computed"
    );
    Ok(())
}
