// SPDX-License-Identifier: GPL-2.0

//! Open regular files: where their data is, and the blobs that it is in.

use crate::{
    error::Failure,
    faults::is_passing,
    fingerprint::OfFile,
    image::Image,
    metadata::Reader,
    run::{self, Lent, Long, Part, Run},
    store::Source,
};
use kernel::{prelude::*, sync::Arc};
use puzzlefs_format as format;
use vfs::{Fingerprint, Inode, SeekTo};

/// Files of more extents are long: of these not all are kept in memory, which would take 48 bytes
/// for each. In chunks of 64 KiB that is 256 MiB.
const MAX_RUN_EXTENTS: usize = 4096;

/// The same where the metadata is in blocks that are loose: these cannot be opened below a page
/// fault, so all extents are kept, and longer files refused. No manifest that fits registries lists
/// the chunks of one.
const MAX_LOOSE_EXTENTS: usize = 1 << 16;

/// Files of less share chunks. Larger ones mostly have theirs to themselves, which cannot be
/// known before the chunk is read: an inode does not tell how long one is.
const SMALL_BYTES: u64 = 16 << 10;

/// An open regular file, shared by all who have it open at the same time, or kept with its
/// inode. Every blob it needs is open, so that a page fault never has to look one up.
pub(crate) struct OpenFile {
    extents: Extents,
}

enum Extents {
    All(Run),
    Long(Long),
}

impl OpenFile {
    /// The file of `inode`, and what it has in it, unless it is a small one.
    fn new(inode: &Inode<Image>) -> Result<(Self, Option<Fingerprint>), Failure> {
        let (mut run, mut long) = (Run::default(), None::<(Long, OfFile<'_>)>);
        let (mut end, mut missing) = (0, None);
        let is_loose = inode.super_block().data().has_loose_metadata();
        run::walk(Reader::new, inode, 0, |extent, left| {
            if end == 0 {
                let count = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
                run.reserve(count.min(MAX_RUN_EXTENTS))?;
            }
            end = extent.end(end)?;
            // What is not sound is said first, whatever chunks are there.
            if missing.is_some() {
                return Ok(true);
            }
            let part = match run::acquire(inode, &extent) {
                Err(error) if !is_passing(error) => {
                    missing = Some(error);
                    return Ok(true);
                }
                part => part?,
            };
            if run.len() >= MAX_RUN_EXTENTS && long.is_none() && is_loose {
                if run.len() >= MAX_LOOSE_EXTENTS {
                    return Err(EFBIG.into());
                }
            } else if run.len() >= MAX_RUN_EXTENTS && long.is_none() {
                let mut all = (Long::default(), OfFile::new(inode));
                for (end, part) in core::mem::take(&mut run).into_extents() {
                    all.1.add(end, part.as_ref())?;
                    all.0.push(end, part.map(|part| part.source))?;
                }
                long = Some(all);
            }
            match &mut long {
                Some((long, content)) => {
                    content.add(end, part.as_ref())?;
                    long.push(end, part.map(|part| part.source))?;
                }
                None => run.push(end, part)?,
            }
            Ok(true)
        })?;
        if end != inode.size() {
            return Err(format::Error::SizeMismatch.into());
        }
        if let Some(error) = missing {
            return Err(error.into());
        }
        if let Some((long, content)) = long {
            let extents = Extents::Long(long);
            return Ok((Self { extents }, Some(content.finish())));
        }
        let content = if small(&run).is_some() || inode.shares_page_cache() {
            None
        } else {
            let mut content = OfFile::new(inode);
            run.extents()
                .try_for_each(|(end, part)| content.add(end, part))?;
            Some(content.finish())
        };
        let extents = Extents::All(run);
        Ok((Self { extents }, content))
    }

    /// The extents from `position` on, up to `end` or some more.
    ///
    /// # Errors
    ///
    /// As of [`Long::run`].
    pub(crate) fn run(
        &self,
        inode: &Inode<Image>,
        position: u64,
        end: u64,
    ) -> Result<Lent<'_>, Failure> {
        Ok(match &self.extents {
            Extents::All(run) => Lent::Kept(run),
            Extents::Long(long) => Lent::Read(long.run(inode, position, end)?),
        })
    }

    /// The first position from `position` on, inside the file, which is that of `inode`, that is
    /// `what`. The end of the file is a hole.
    ///
    /// # Errors
    ///
    /// `ENXIO` when only holes follow, and as of [`Long::run`].
    pub(crate) fn seek(
        &self,
        inode: &Inode<Image>,
        position: u64,
        what: SeekTo,
    ) -> Result<u64, Failure> {
        let mut start = position;
        while start < inode.size() {
            if vfs::killed() {
                return Err(EINTR.into());
            }
            let run = self.run(inode, start, u64::MAX)?;
            let at = run.locate(start).ok_or(ENXIO)?;
            for (end, part) in run.extents().skip(at.index) {
                let found = match part {
                    Some(_) => SeekTo::Data,
                    None => SeekTo::Hole,
                };
                if found == what {
                    return Ok(start);
                }
                start = end;
            }
        }
        match what {
            SeekTo::Hole if start > position => Ok(start),
            _ => Err(ENXIO.into()),
        }
    }

    /// Whether it is kept as long as its inode: it takes little, and keeps nothing open.
    /// What is kept is dropped in an RCU callback, where a loose chunk could not be closed.
    fn is_kept(&self) -> bool {
        let Extents::All(run) = &self.extents else {
            return false;
        };
        let is_loose = |(_, part): (u64, Option<&Part>)| {
            matches!(part.map(|part| &part.source), Some(Source::Loose(_)))
        };
        run.len() <= MAX_KEPT_EXTENTS && !run.extents().any(is_loose)
    }

    /// The only extent of a small file that is in a pack: it is read from the page cache of
    /// its chunk ([`crate::shared`]).
    pub(crate) fn small(&self) -> Option<&Part> {
        match &self.extents {
            Extents::All(run) => small(run),
            Extents::Long(_) => None,
        }
    }
}

fn small(run: &Run) -> Option<&Part> {
    let mut extents = run.extents();
    let (Some((end, Some(part))), None) = (extents.next(), extents.next()) else {
        return None;
    };
    let is_packed = matches!(part.source, Source::Packed(_));
    let is_of_several = part.offset > 0 || end < SMALL_BYTES;
    (is_packed && is_of_several).then_some(part)
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
    let (ours, content) = OpenFile::new(inode)?;
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
