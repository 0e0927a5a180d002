// SPDX-License-Identifier: GPL-2.0

//! The metadata of an image: in memory as a whole, or in blocks, each of which is a chunk
//! that is read when someone looks at what is in it.

use crate::{
    blobs::Blobs,
    error::{errno, logged},
    faults::Purpose,
    image::Image,
    slot::Key,
};
use kernel::{prelude::*, sync::SetOnce};
use puzzlefs_format::{
    self as format, limits, Block, Blocks, Digest, Part, Rootfs, RootfsBlob, RootfsHead,
};
use vfs::{CacheReader, Log, SuperBlock};

/// The metadata of an image.
pub(crate) struct Metadata {
    /// The Rootfs blob that has them, or says where they are.
    digest: Digest,
    /// The `manifestVersion`.
    version: u64,
    form: Form,
    /// What was found when they were first looked at.
    head: SetOnce<RootfsHead>,
}

enum Form {
    /// The Rootfs message.
    Whole(KVVec<u8>),
    /// The blob that says where its blocks are, and its size.
    Blocks(KVVec<u8>, usize),
}

impl Metadata {
    /// Loads the Rootfs blob `digest` and verifies it. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// As [`Blobs::load`]; `EUCLEAN` when it is not sound, `EOPNOTSUPP` for a version that
    /// is not known.
    pub(crate) fn load(blobs: &Blobs, digest: &Digest, log: &Log<'_>) -> Result<Self> {
        let bytes = blobs.load(digest, limits::MAX_ROOTFS_BYTES, log)?;
        Self::new(digest, bytes, log)
    }

    /// The same of a blob that is loaded already.
    pub(crate) fn new(digest: &Digest, bytes: KVVec<u8>, log: &Log<'_>) -> Result<Self> {
        let (version, size) = match RootfsBlob::parse(&bytes) {
            Ok(RootfsBlob::Whole(rootfs)) => (rootfs.version(), None),
            Ok(RootfsBlob::Blocks(blocks)) => (blocks.version(), Some(blocks.total())),
            Err(error) => {
                log.error(format_args!("blob sha256:{digest}: {error}"));
                return Err(errno(error));
            }
        };
        let form = match size {
            None => Form::Whole(bytes),
            Some(size) => Form::Blocks(bytes, usize::try_from(size).map_err(|_| EFBIG)?),
        };
        Ok(Self {
            digest: *digest,
            version,
            form,
            head: SetOnce::new(),
        })
    }

    /// The `manifestVersion`.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether it is in blocks.
    pub(crate) fn is_in_blocks(&self) -> bool {
        matches!(self.form, Form::Blocks(..))
    }

    /// The digest of the Rootfs blob.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The root directory, if the blob says what it is and leaves the rest to blocks.
    ///
    /// # Errors
    ///
    /// What is not sound in it.
    pub(crate) fn root(&self) -> Result<Option<format::Inode<'_>>, format::Error> {
        match &self.form {
            Form::Whole(_) => Ok(None),
            Form::Blocks(bytes, _) => blocks(bytes)?.root(),
        }
    }
}

/// Lends the metadata of a mounted image for one operation.
pub(crate) struct Reader<'a> {
    image: &'a Image,
    /// Whether blocks that are loose may be looked up in the layout.
    may_look_up: bool,
    cached: CacheReader<'a>,
}

impl<'a> Reader<'a> {
    /// A reader of the metadata of `sb`.
    pub(crate) fn new(sb: &'a SuperBlock<Image>) -> Self {
        Self {
            image: sb.data(),
            may_look_up: true,
            cached: CacheReader::new(sb.metadata_cache()),
        }
    }

    /// The same for who reads data, perhaps below a page fault: it looks up nothing in the layout,
    /// and has no block that is loose.
    pub(crate) fn for_data(sb: &'a SuperBlock<Image>) -> Self {
        Self {
            may_look_up: false,
            ..Self::new(sb)
        }
    }

    /// The metadata.
    ///
    /// # Errors
    ///
    /// What is not sound; as [`format::Error::Unreadable`], `EIO` when they cannot be read or are
    /// not those that the digest says, and `ENOMEM`.
    pub(crate) fn rootfs(&self) -> Result<Rootfs<'_>, format::Error> {
        let Metadata { form, head, .. } = self.image.metadata();
        if let Some(head) = head.as_ref() {
            return Ok(match form {
                Form::Whole(bytes) => head.in_memory(bytes),
                Form::Blocks(..) => head.in_source(self),
            });
        }
        let rootfs = match form {
            Form::Whole(bytes) => Rootfs::parse(bytes),
            Form::Blocks(..) => Rootfs::parse_source(self, self.image.metadata().version()),
        }?;
        // If someone else was faster, he has found the same.
        head.populate(rootfs.head());
        Ok(rootfs)
    }

    /// Whether the next step of a loop had better have a reader of its own: what is lent is pinned.
    pub(crate) fn is_full(&self) -> bool {
        self.cached.is_full()
    }

    /// Inode `ino`.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::rootfs`], and when there is none.
    pub(crate) fn inode(&self, ino: u64) -> Result<format::Inode<'_>, format::Error> {
        let inode = self.rootfs()?.inode(ino)?;
        inode.ok_or(format::Error::BadDirEntry)
    }

    /// Where the block at `position` of the message begins, and which chunk it is. Not in the
    /// frame of who reads it from the filesystem below, which wants the stack.
    #[inline(never)]
    fn block(&self, position: u64) -> Result<(u64, Block)> {
        let Form::Blocks(bytes, _) = &self.image.metadata().form else {
            return Err(EINVAL);
        };
        let number = position.checked_div(limits::BLOCK_BYTES).ok_or(EINVAL)?;
        let start = number.checked_mul(limits::BLOCK_BYTES).ok_or(EUCLEAN)?;
        let number = u32::try_from(number).map_err(|_| EUCLEAN)?;
        let block = blocks(bytes).and_then(|blocks| blocks.get(number));
        Ok((start, block.map_err(logged(self.image, Purpose::Metadata))?))
    }

    /// Puts the block at `position` of the message into the cache.
    fn load(&self, position: u64) -> Result {
        let (start, block) = self.block(position)?;
        let store = self.image.store();
        let source = match self.may_look_up {
            true => store.acquire(&block.chunk.digest, Purpose::Metadata),
            false => store.acquire_packed(&block.chunk.digest, Purpose::Metadata),
        }?;
        let chunk = store.stored(&source, Purpose::Metadata)?;
        let cache = self.cached.cache();
        let _reading = store.reading(chunk.digest())?;
        // Whoever was reading it has put it there.
        if cache.has(position)? {
            return Ok(());
        }
        let key = Key {
            mount: self.image.pool().id(),
            digest: *chunk.digest(),
            compressed: block.chunk.compressed,
        };
        self.image.pool().with_slot(&key, |slot| {
            let mut loaded = slot.load(&key, &chunk)?;
            let size = loaded.size();
            if size as u64 != block.len {
                chunk.report(format_args!("{size} bytes are not a block of metadata"));
                return Err(EUCLEAN);
            }
            cache.fill(start, size, |memory| loaded.write_to(memory))?;
            store.stats().metadata_blocks.add(1);
            Ok(())
        })
    }
}

impl format::Source for Reader<'_> {
    fn size(&self) -> usize {
        match &self.image.metadata().form {
            Form::Whole(bytes) => bytes.len(),
            Form::Blocks(_, size) => *size,
        }
    }

    fn part(&self, at: usize) -> Result<Part<'_>, format::Error> {
        let load = |position| vfs::without_fs_reclaim(|| self.load(position));
        let (start, bytes) = self.cached.folio(at as u64, load).map_err(unreadable)?;
        let start = usize::try_from(start).map_err(|_| unreadable(EFBIG))?;
        Ok(Part { start, bytes })
    }

    fn join(&self, at: usize, len: usize) -> Result<&[u8], format::Error> {
        let load = |position| vfs::without_fs_reclaim(|| self.load(position));
        self.cached.join(at as u64, len, load).map_err(unreadable)
    }

    fn is_full(&self) -> bool {
        self.cached.is_full()
    }

    // Not in the frame of who mostly needs none.
    #[inline(never)]
    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn format::Source) -> Result<(), format::Error>,
    ) -> Result<(), format::Error> {
        function(&Reader {
            cached: CacheReader::new(self.cached.cache()),
            ..*self
        })
    }
}

/// The blocks that the blob in `bytes` lists.
fn blocks(bytes: &[u8]) -> Result<Blocks<'_>, format::Error> {
    match RootfsBlob::parse(bytes)? {
        RootfsBlob::Blocks(blocks) => Ok(blocks),
        RootfsBlob::Whole(_) => Err(format::Error::BadBlocks),
    }
}

fn unreadable(error: Error) -> format::Error {
    format::Error::Unreadable(error.to_errno())
}
