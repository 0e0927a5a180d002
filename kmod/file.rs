// SPDX-License-Identifier: GPL-2.0

//! Open regular files: where their data is, and the blobs that it is in.

use crate::{
    error::Failure, faults::Purpose, fingerprint, image::Image, metadata::Reader, store::Source,
};
use kernel::{prelude::*, sync::Arc};
use puzzlefs_format::{self as format, locate, Kind};
use vfs::{Inode, SeekTo};

/// An extent of a file: a part of a chunk.
pub(crate) struct Part {
    /// The chunk.
    pub(crate) source: Source,
    /// Where in the decompressed chunk the extent begins, in bytes.
    pub(crate) offset: u64,
    /// Whether the chunk is stored compressed.
    pub(crate) compressed: bool,
}

/// Extents of a file that are looked at through one reader, which keeps what it has read of the
/// metadata in memory: some 200 KiB.
const BATCH: u32 = 1024;

/// Files of less share chunks. Larger ones mostly have theirs to themselves, which cannot be
/// known before the chunk is read: an inode does not tell how long one is.
const SMALL_BYTES: u64 = 16 << 10;

/// An open regular file, shared by all who have it open at the same time, or kept with its
/// inode. Every blob it needs is open, so that a page fault never has to look one up.
pub(crate) struct OpenFile {
    /// Where each extent ends.
    ends: KVVec<u64>,
    /// The extents; none for a hole.
    parts: KVVec<Option<Part>>,
}

impl OpenFile {
    fn new(inode: &Inode<Image>) -> Result<Self, Failure> {
        let mut this = Self {
            ends: KVVec::new(),
            parts: KVVec::new(),
        };
        while !this.add_extents(inode)? {
            if vfs::killed() {
                return Err(EINTR.into());
            }
        }
        Ok(this)
    }

    /// Adds the next extents; true when these are all. Keeps only the metadata of some of them in
    /// memory: a file may have millions.
    fn add_extents(&mut self, inode: &Inode<Image>) -> Result<bool, Failure> {
        let reader = Reader::new(inode.super_block());
        let Kind::File(extents) = reader.inode(inode.ino())?.kind()? else {
            return Err(format::Error::BadMode.into());
        };
        let start = u32::try_from(self.ends.len()).map_err(|_| EFBIG)?;
        if start == 0 {
            let count = usize::try_from(extents.len()).map_err(|_| EFBIG)?;
            self.ends.reserve(count, GFP_KERNEL_ACCOUNT)?;
            self.parts.reserve(count, GFP_KERNEL_ACCOUNT)?;
        }
        let stop = start.saturating_add(BATCH).min(extents.len());
        let is_all = stop == extents.len();
        // What is not sound is told before anything is opened.
        let mut size = self.ends.last().copied().unwrap_or(0);
        for index in start..stop {
            (_, size) = extents.get_from(index, size)?;
            self.ends.push(size, GFP_KERNEL_ACCOUNT)?;
        }
        if is_all && size != inode.size() {
            return Err(format::Error::SizeMismatch.into());
        }
        let store = inode.super_block().data().store();
        for index in start..stop {
            let part = match extents.get(index)?.chunk {
                Some(chunk) => Some(Part {
                    source: store.acquire(&chunk.digest, Purpose::Inode(inode.ino()))?,
                    offset: chunk.offset,
                    compressed: chunk.compressed,
                }),
                None => None,
            };
            self.parts.push(part, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(is_all)
    }

    /// The extents: where each one ends, and its part of a chunk unless it is a hole.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (u64, Option<&Part>)> {
        let ends = self.ends.iter().copied();
        ends.zip(self.parts.iter().map(Option::as_ref))
    }

    /// Where each extent ends, for [`puzzlefs_format::locate`].
    pub(crate) fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// The first position from `position` on, inside the file, that is `what`. The end of
    /// the file is a hole.
    ///
    /// # Errors
    ///
    /// `ENXIO` when only holes follow.
    pub(crate) fn seek(&self, position: u64, what: SeekTo) -> Result<u64> {
        let at = locate(&self.ends, position).ok_or(ENXIO)?;
        let mut start = position;
        for (end, part) in self.extents().skip(at.index) {
            let found = match part {
                Some(_) => SeekTo::Data,
                None => SeekTo::Hole,
            };
            if found == what {
                return Ok(start);
            }
            start = end;
        }
        match what {
            SeekTo::Hole => Ok(start),
            SeekTo::Data => Err(ENXIO),
        }
    }

    /// Whether it is kept as long as its inode: it takes little, and keeps nothing open.
    /// What is kept is dropped in an RCU callback, where a loose chunk could not be closed.
    fn is_kept(&self) -> bool {
        let is_loose = |part: &Option<Part>| {
            let source = part.as_ref().map(|part| &part.source);
            matches!(source, Some(Source::Loose(_)))
        };
        self.parts.len() <= MAX_KEPT_EXTENTS && !self.parts.iter().any(is_loose)
    }

    /// The only extent of a small file that is in a pack: it is read from the page cache of
    /// its chunk ([`crate::shared`]).
    pub(crate) fn small(&self) -> Option<&Part> {
        let ([end], [Some(part)]) = (&*self.ends, &*self.parts) else {
            return None;
        };
        let is_packed = matches!(part.source, Source::Packed(_));
        let is_of_several = part.offset > 0 || *end < SMALL_BYTES;
        (is_packed && is_of_several).then_some(part)
    }

    /// Extent `index`; none if it is a hole.
    pub(crate) fn part(&self, index: usize) -> Result<Option<&Part>> {
        Ok(self.parts.get(index).ok_or(EUCLEAN)?.as_ref())
    }
}

/// Files of more extents are not kept when they are closed: about a page of memory.
const MAX_KEPT_EXTENTS: usize = 64;

/// What an inode knows of its open files, if they are not kept.
#[derive(Default)]
pub(crate) struct Opens {
    users: usize,
    file: Option<Arc<OpenFile>>,
}

impl Opens {
    fn share(&mut self, file: &Arc<OpenFile>) -> Arc<OpenFile> {
        self.users = self.users.saturating_add(1);
        file.clone()
    }
}

/// Opens a file, or shares it with those who have it open. None if it is kept from now on.
///
/// # Errors
///
/// `EIO` when a chunk is missing, `EUCLEAN` when the extents are not sound, `EINTR` when
/// the opener was killed.
pub(crate) fn open(inode: &Inode<Image>) -> Result<Option<Arc<OpenFile>>, Failure> {
    let mut opens = inode.data().opens.lock();
    if let Some(file) = opens.file.clone() {
        return Ok(Some(opens.share(&file)));
    }
    drop(opens);
    // Without the lock: opening a blob may wait for a fanotify listener that itself opens
    // this file.
    let ours = OpenFile::new(inode)?;
    let content = match ours.small() {
        None if !inode.shares_page_cache() => Some(fingerprint::of_file(&ours, inode)?),
        _ => None,
    };
    let data = inode.data();
    let mut opens = data.opens.lock();
    // What others have found counts: by that they have the page cache that the file has now.
    if data.kept().is_some() {
        return Ok(None);
    }
    if let Some(file) = opens.file.clone() {
        return Ok(Some(opens.share(&file)));
    }
    // Before anyone can read it by what is kept from here on.
    if let Some(content) = &content {
        inode.share_page_cache(content)?;
    }
    if ours.is_kept() {
        data.keep(KBox::new(ours, GFP_KERNEL_ACCOUNT)?);
        return Ok(None);
    }
    let file = Arc::new(ours, GFP_KERNEL_ACCOUNT)?;
    opens.file = Some(file.clone());
    Ok(Some(opens.share(&file)))
}

/// Undoes one [`open`].
pub(crate) fn release(inode: &Inode<Image>, file: Arc<OpenFile>) {
    let mut opens = inode.data().opens.lock();
    opens.users = opens.users.saturating_sub(1);
    let last = if opens.users == 0 {
        opens.file.take()
    } else {
        None
    };
    // Blobs are closed without the lock.
    drop(opens);
    drop((file, last));
}
