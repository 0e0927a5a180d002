// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Rootfs blobs, and messages that are not in one of them but in chunks.

use crate::capnp::Struct;
use crate::rootfs::{version, BLOCKS, ROOT};
use crate::source::Bytes;
use crate::{limits, ChunkRef, Error, Extents, FileType, Inode, Rootfs, ROOT_INO, VERSION_BLOCKS};

/// What a Rootfs blob holds.
#[derive(Clone, Copy, Debug)]
pub enum RootfsBlob<'a> {
    /// All metadata.
    Whole(Rootfs<'a>),
    /// Only where they are.
    Blocks(Blocks<'a>),
}

impl<'a> RootfsBlob<'a> {
    /// Parses a Rootfs blob: work for its segments, and for its layers if it has any, none
    /// for its blocks. What those say is checked when one is asked for.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > limits::MAX_ROOTFS_BYTES {
            return Err(Error::LimitExceeded);
        }
        let root = Struct::root(Bytes::in_memory(bytes))?;
        let version = version(&root)?;
        if version < VERSION_BLOCKS || root.list(BLOCKS)?.is_empty() {
            return Rootfs::parse(bytes).map(Self::Whole);
        }
        Blocks::new(root, version).map(Self::Blocks)
    }
}

/// Where the blocks of a Rootfs message are. All are [`limits::BLOCK_BYTES`] long but the
/// last one, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    root: Struct<'a>,
    version: u64,
    extents: Extents<'a>,
    total: u64,
}

/// A block of a Rootfs message: the whole content of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The chunk; its offset is 0.
    pub chunk: ChunkRef,
    /// How many bytes it holds.
    pub len: u64,
}

impl<'a> Blocks<'a> {
    fn new(root: Struct<'a>, version: u64) -> Result<Self, Error> {
        let mut this = Self {
            root,
            version,
            extents: Extents::new(root.list(BLOCKS)?, 0, false)?,
            total: 0,
        };
        let last = this.len().saturating_sub(1);
        let full = u64::from(last).saturating_mul(limits::BLOCK_BYTES);
        this.total = full.saturating_add(this.get(last)?.len);
        match usize::try_from(this.total) {
            Ok(total) if total <= limits::MAX_ROOTFS_BYTES => Ok(this),
            _ => Err(Error::LimitExceeded),
        }
    }

    /// The `manifestVersion` of the image.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of blocks; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.extents.len()
    }

    /// The size of the message.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Block `index`.
    pub fn get(&self, index: u32) -> Result<Block, Error> {
        let extent = self.extents.get(index)?;
        let (len, chunk) = (extent.len, extent.chunk.ok_or(Error::BadBlocks)?);
        let is_last = index.saturating_add(1) == self.len();
        let is_full = len == limits::BLOCK_BYTES;
        if chunk.offset != 0 || len > limits::BLOCK_BYTES || !(is_full || is_last) {
            return Err(Error::BadBlocks);
        }
        Ok(Block { chunk, len })
    }

    /// What [`crate::ROOT_INO`] is, without its entries and the values of its extended
    /// attributes, but with its recorded size; `None` if only the message says that. To look
    /// for its entries here would be to find none.
    pub fn root(&self) -> Result<Option<Inode<'a>>, Error> {
        let Some(copy) = self.root.structure(ROOT)? else {
            return Ok(None);
        };
        match Inode::new(copy, self.version)? {
            Some(inode) if inode.ino() == ROOT_INO && inode.file_type() == FileType::Dir => {
                Ok(Some(inode).filter(|inode| inode.recorded_size().is_some()))
            }
            _ => Err(Error::NoRootDirectory),
        }
    }

    /// All blocks, from the first to the last.
    pub fn iter(&self) -> impl Iterator<Item = Result<Block, Error>> + 'a {
        let this = *self;
        (0..this.len()).map(move |index| this.get(index))
    }
}
