// SPDX-License-Identifier: GPL-2.0

//! Reads metadata: in memory, or block by block.

use super::{
    blob::{blocks, Form, Metadata},
    Access,
};
use crate::{
    chunks::Source,
    report::{logged, Purpose},
};
use kernel::prelude::*;
use puzzlefs_format::{self as format, limits, Block, Digest, Dir, DirPlace, Part, Rootfs};
use vfs::CacheReader;

/// Lends the metadata of a mounted image for one operation.
pub(crate) struct Reader<'a> {
    access: Access<'a>,
    /// Whether blocks that are loose may be looked up in the layout.
    may_look_up: bool,
    cached: CacheReader<'a>,
}

impl<'a> Reader<'a> {
    /// A reader of what `access` leads to.
    pub(crate) fn new(access: Access<'a>) -> Self {
        Self {
            access,
            may_look_up: true,
            cached: CacheReader::new(access.cache),
        }
    }

    /// A reader for a task that reads data, perhaps in a page fault. It looks up nothing in the
    /// layout, so that it cannot read blocks that are loose.
    pub(crate) fn for_data(access: Access<'a>) -> Self {
        Self {
            may_look_up: false,
            ..Self::new(access)
        }
    }

    /// The metadata.
    ///
    /// # Errors
    ///
    /// What is not sound; as [`format::Error::Unreadable`], `EIO` when they cannot be read or are
    /// not those that the digest says, and `ENOMEM`.
    pub(crate) fn rootfs(&self) -> Result<Rootfs<'_>, format::Error> {
        let Metadata { form, head, .. } = self.access.metadata;
        if let Some(head) = head.as_ref() {
            return Ok(match form {
                Form::Whole(bytes) => head.in_memory(bytes),
                Form::Blocks(..) => head.in_source(self),
            });
        }
        let rootfs = match form {
            Form::Whole(bytes) => Rootfs::parse(bytes),
            Form::Blocks(..) => Rootfs::parse_source(self, self.access.metadata.version()),
        }?;
        // If someone else was faster, he has found the same.
        head.populate(rootfs.head());
        Ok(rootfs)
    }

    /// The directory at `place`, which one of these metadata said.
    pub(crate) fn dir(&self, place: &DirPlace) -> Dir<'_> {
        match &self.access.metadata.form {
            Form::Whole(bytes) => place.in_memory(bytes),
            Form::Blocks(..) => place.in_source(self),
        }
    }

    /// Whether so much is lent, and pinned, that a loop should take another reader for its next
    /// step.
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

    /// Where the block at `position` of the message begins, and which chunk it is. It is not
    /// inlined: the frame of the caller stays on the stack while the filesystem below reads.
    #[inline(never)]
    fn block(&self, position: u64) -> Result<(u64, Block)> {
        let Form::Blocks(bytes, _) = &self.access.metadata.form else {
            return Err(EINVAL);
        };
        let number = position.checked_div(limits::BLOCK_BYTES).ok_or(EINVAL)?;
        let start = number.checked_mul(limits::BLOCK_BYTES).ok_or(EUCLEAN)?;
        let number = u32::try_from(number).map_err(|_| EUCLEAN)?;
        let block = blocks(bytes).and_then(|blocks| blocks.get(number));
        Ok((
            start,
            block.map_err(logged(
                self.access.content.chunks().faults(),
                Purpose::Metadata,
            ))?,
        ))
    }

    /// The chunk of a block, ready to be read. Not inlined, as [`Reader::block`].
    #[inline(never)]
    fn source(&self, digest: &Digest) -> Result<Source> {
        let chunks = self.access.content.chunks();
        match self.may_look_up {
            true => chunks.acquire(digest, Purpose::Metadata),
            false => chunks.acquire_packed(digest, Purpose::Metadata),
        }
    }

    /// Puts the block at `position` of the message into the cache.
    fn load(&self, position: u64) -> Result {
        let (start, block) = self.block(position)?;
        let Access { content, cache, .. } = self.access;
        let chunks = content.chunks();
        let source = self.source(&block.chunk.digest)?;
        let chunk = content.chunk(&source, block.chunk.compressed, Purpose::Metadata)?;
        let locked = chunk.lock()?;
        // Whoever was reading it has put it there.
        if cache.has(position)? {
            return Ok(());
        }
        locked.read(|loaded| {
            let size = loaded.size();
            if size as u64 != block.len {
                let stored = chunk.stored();
                stored.report(format_args!("{size} bytes are not a block of metadata"));
                return Err(EUCLEAN);
            }
            cache.fill(start, size, |output| loaded.write_to(output))?;
            chunks.counters().metadata_blocks.add(1);
            Ok(())
        })
    }
}

impl format::Source for Reader<'_> {
    fn size(&self) -> usize {
        match &self.access.metadata.form {
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

    // Not inlined: most callers never need a scope, and should not pay for its frame.
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

fn unreadable(error: Error) -> format::Error {
    format::Error::Unreadable(error.to_errno())
}
