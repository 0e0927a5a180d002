// SPDX-License-Identifier: GPL-2.0

//! The metadata of an image: in memory as a whole, or in blocks, each of which is a chunk
//! that is read when someone looks at what is in it.

use crate::{
    blobs::{explain, Blobs},
    error::errno,
    faults::Purpose,
    image::Image,
    slot::Key,
    store::{Source, Store},
};
use kernel::{prelude::*, sync::SetOnce};
use puzzlefs_format::{
    self as format, limits, Blocks, Digest, Part, Rootfs, RootfsBlob, RootfsHead,
};
use vfs::{CacheReader, Log, SuperBlock};

/// The metadata of an image.
pub(crate) struct Metadata {
    /// The Rootfs blob that has them, or says where they are.
    digest: Digest,
    form: Form,
    /// What was found when they were first looked at.
    head: SetOnce<RootfsHead>,
}

enum Form {
    /// The Rootfs message.
    Whole(KVVec<u8>),
    /// Its blocks, and its size.
    Blocks(KVVec<Block>, usize),
}

/// A chunk that holds a block.
struct Block {
    source: Source,
    compressed: bool,
}

/// A Rootfs blob, verified.
pub(crate) struct Blob {
    digest: Digest,
    version: u64,
    bytes: KVVec<u8>,
}

impl Blob {
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
        let version = match RootfsBlob::parse(&bytes) {
            Ok(RootfsBlob::Whole(rootfs)) => rootfs.version(),
            Ok(RootfsBlob::Blocks(blocks)) => blocks.version(),
            Err(error) => {
                log.error(format_args!("blob sha256:{digest}: {error}"));
                return Err(errno(error));
            }
        };
        Ok(Self {
            digest: *digest,
            version,
            bytes,
        })
    }

    /// The `manifestVersion`.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }
}

impl Metadata {
    /// The metadata that `blob` has, or whose blocks are in `store`.
    ///
    /// # Errors
    ///
    /// `ENODATA` for a block that is not there, explained in `log`; `ENOMEM`.
    pub(crate) fn new(blob: Blob, store: &Store, log: &Log<'_>) -> Result<Self> {
        let form = match RootfsBlob::parse(&blob.bytes).map_err(errno)? {
            RootfsBlob::Whole(_) => Form::Whole(blob.bytes),
            RootfsBlob::Blocks(blocks) => Self::find(&blocks, store, log)?,
        };
        Ok(Self {
            digest: blob.digest,
            form,
            head: SetOnce::new(),
        })
    }

    fn find(blocks: &Blocks<'_>, store: &Store, log: &Log<'_>) -> Result<Form> {
        let size = usize::try_from(blocks.total()).map_err(|_| EFBIG)?;
        let count = usize::try_from(blocks.len()).map_err(|_| EFBIG)?;
        let mut found = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for block in blocks.iter() {
            let chunk = block.map_err(errno)?.chunk;
            let source = store.acquire(&chunk.digest, Purpose::Metadata);
            let source = source.map_err(|error| {
                let what = "a block of the metadata is not in the OCI layout";
                match error {
                    EIO => explain(log, &chunk.digest, ENODATA, what),
                    error => error,
                }
            })?;
            let block = Block {
                source,
                compressed: chunk.compressed,
            };
            found.push(block, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Form::Blocks(found, size))
    }

    /// The digest of the Rootfs blob.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Lends the metadata of a mounted image for one operation.
pub(crate) struct Reader<'a> {
    image: &'a Image,
    cached: CacheReader<'a>,
}

impl<'a> Reader<'a> {
    /// A reader of the metadata of `sb`.
    pub(crate) fn new(sb: &'a SuperBlock<Image>) -> Self {
        Self {
            image: sb.data(),
            cached: CacheReader::new(sb.metadata_cache()),
        }
    }

    /// The metadata.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when they are not sound; `EIO` when they cannot be read or are not those
    /// that the digest says; `ENOMEM`.
    pub(crate) fn rootfs(&self) -> Result<Rootfs<'_>> {
        let Metadata { form, head, .. } = self.image.metadata();
        if let Some(head) = head.as_ref() {
            return Ok(match form {
                Form::Whole(bytes) => head.in_memory(bytes),
                Form::Blocks(..) => head.in_source(self),
            });
        }
        let rootfs = match form {
            Form::Whole(bytes) => Rootfs::parse(bytes),
            Form::Blocks(..) => Rootfs::parse_source(self),
        };
        let rootfs = rootfs.map_err(errno)?;
        // If someone else was faster, he has found the same.
        head.populate(rootfs.head());
        Ok(rootfs)
    }

    /// Inode `ino`.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::rootfs`], and `EUCLEAN` when there is none.
    pub(crate) fn inode(&self, ino: u64) -> Result<format::Inode<'_>> {
        self.rootfs()?.inode(ino).map_err(errno)?.ok_or(EUCLEAN)
    }

    /// Puts the block at `position` of the message into the cache.
    fn load(&self, position: u64) -> Result {
        let Form::Blocks(blocks, size) = &self.image.metadata().form else {
            return Err(EINVAL);
        };
        let number = position.checked_div(limits::BLOCK_BYTES).ok_or(EINVAL)?;
        let start = number.checked_mul(limits::BLOCK_BYTES).ok_or(EUCLEAN)?;
        let block = usize::try_from(number).ok().and_then(|n| blocks.get(n));
        let block = block.ok_or(EUCLEAN)?;
        let left = (*size as u64).checked_sub(start).ok_or(EUCLEAN)?;
        let store = self.image.store();
        let chunk = store.stored(&block.source, Purpose::Metadata)?;
        let cache = self.cached.cache();
        let _reading = store.reading(chunk.digest())?;
        // Whoever was reading it has put it there.
        if cache.has(position)? {
            return Ok(());
        }
        let key = Key {
            mount: self.image.pool().id(),
            digest: *chunk.digest(),
            compressed: block.compressed,
        };
        self.image.pool().with_slot(&key, |slot| {
            let mut loaded = slot.load(&key, &chunk)?;
            let size = loaded.size();
            if size as u64 != left.min(limits::BLOCK_BYTES) {
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
        let (start, bytes) = self
            .cached
            .folio(at as u64, |position| self.load(position))
            .map_err(unreadable)?;
        let start = usize::try_from(start).map_err(|_| unreadable(EFBIG))?;
        Ok(Part { start, bytes })
    }

    fn join(&self, at: usize, len: usize) -> Result<&[u8], format::Error> {
        self.cached
            .join(at as u64, len, |position| self.load(position))
            .map_err(unreadable)
    }
}

fn unreadable(error: Error) -> format::Error {
    format::Error::Unreadable(error.to_errno())
}
