// SPDX-License-Identifier: GPL-2.0

//! The data of files, on its way into the page cache.
//!
//! A chunk is verified as a whole: that is the unit of trust. What becomes of it then
//! depends on whose it is:
//!
//! - A chunk that one file has to itself is decompressed straight into the folios of that
//!   file, if all of it was asked for; readahead is expanded so that it mostly is. Several
//!   such chunks in one window are decompressed at once ([`crate::batch`]).
//! - A chunk that several small files share goes into a page cache of its own
//!   ([`crate::shared`]), from which these are read. If they have folios, they are copied
//!   from there, until all of it was copied.

use crate::{
    batch,
    error::in_inode,
    faults::Purpose,
    file::OpenFile,
    image::Image,
    run::{Part, Run},
    shared::Shared,
    slot::{Key, Loaded, Slot},
    store::Stored,
};
use kernel::prelude::*;
use vfs::{Inode, ReadWindow};

/// How far to read ahead, in bytes: some chunks, since several are decompressed at once
/// ([`crate::batch`]). With more than this, programs that start would read, around what they
/// touch, more than they need.
pub(crate) const READAHEAD_BYTES: usize = 256 << 10;

/// Whoever reads more at once, in bytes, gets it at once up to this.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;

/// How far beyond what was asked for a window may grow, in bytes, so that a chunk that
/// has to be decompressed anyway is used whole.
const EXPAND_BYTES: u64 = 512 << 10;

/// How often a chunk is put into its page cache for one reader, before whom it may be reclaimed.
const MAX_FILLS: usize = 8;

/// Fills `window` with the data of `inode`; `file` says where that is.
///
/// # Errors
///
/// `EIO` for a chunk that is damaged, `EUCLEAN` for one that is shorter than the
/// metadata says, `EINTR` when the reader was killed, `ENOMEM`.
pub(crate) fn read(inode: &Inode<Image>, file: &OpenFile, window: &mut ReadWindow<'_>) -> Result {
    let stats = inode.super_block().data().store().stats();
    let run = |window: &ReadWindow<'_>| {
        let end = window.position().saturating_add(window.remaining());
        let run = file.run(inode, window.position(), end.saturating_add(EXPAND_BYTES));
        run.map_err(in_inode(inode))
    };
    let mut extents = run(window)?;
    expand(&extents, window);
    while window.remaining() > 0 {
        if vfs::killed() {
            return Err(EINTR);
        }
        let start = window.position();
        // Behind the end of the file is the rest of its last folio.
        if start >= extents.end() && start < inode.size() {
            extents = run(window)?;
        }
        if !batch::read(inode, &extents, window)? {
            match next(&extents, start, window.remaining())? {
                Next::Piece(piece) => piece.read(inode, window)?,
                Next::Zeroes(len) => window.zero(len)?,
            }
        }
        let filled = window.position().saturating_sub(start);
        stats.bytes_filled.add(filled);
    }
    Ok(())
}

/// Calls `copy` with `len` bytes of `file`, which is that of `inode`, from `position` on, if it
/// is a small one and they are in the page cache of its chunk, or can be put there. False if not
/// all of them could.
///
/// # Errors
///
/// As [`read`], and those of `copy`.
pub(crate) fn copy_shared(
    inode: &Inode<Image>,
    file: &OpenFile,
    position: u64,
    len: usize,
    mut copy: impl FnMut(&[u8]) -> Result,
) -> Result<bool> {
    let Some(part) = file.small() else {
        return Ok(false);
    };
    let sb = inode.super_block();
    let image = sb.data();
    // Mostly it is there, and nothing else of the chunk is of interest.
    let start = usize::try_from(part.offset.saturating_add(position)).map_err(|_| EUCLEAN)?;
    let read = match image.store().shared(&part.source, part.compressed) {
        Some(shared) => shared.read(start, len, &mut copy)?,
        None => 0,
    };
    if read == len {
        return Ok(true);
    }
    let left = (len as u64).saturating_sub(read as u64);
    let run = file.run(inode, position, position.saturating_add(len as u64));
    let run = run.map_err(in_inode(inode))?;
    let Next::Piece(piece) = next(&run, position.saturating_add(read as u64), left)? else {
        return Ok(false);
    };
    let mut start = piece.start;
    let purpose = Purpose::Inode(inode.ino());
    let chunk = image.store().stored(&piece.part.source, purpose)?;
    let reading = image.store().reading(chunk.digest())?;
    let shared = vfs::without_fs_reclaim(|| Shared::make(sb, &chunk, part.compressed));
    drop(reading);
    let Some(shared) = shared else {
        return Ok(false);
    };
    for _ in 0..MAX_FILLS {
        let read = shared.read(start, piece.end().saturating_sub(start), &mut copy)?;
        start = start.saturating_add(read);
        if start == piece.end() {
            return Ok(piece.len as u64 == left);
        }
        if vfs::killed() {
            return Err(EINTR);
        }
        if !piece.fill(start, image, &chunk, shared)? {
            break;
        }
    }
    Ok(false)
}

/// What comes next in a file, or in a run of its extents.
pub(crate) enum Next<'a> {
    /// A part of a chunk.
    Piece(Piece<'a>),
    /// So many zeroes: a hole, or what is behind the end, where the last folio is zero.
    Zeroes(u64),
}

/// What comes at `position`, in up to `len` bytes of those that `run` knows of.
///
/// # Errors
///
/// `EUCLEAN` when a chunk would be longer than memory.
pub(crate) fn next(run: &Run, position: u64, len: u64) -> Result<Next<'_>> {
    let Some(at) = run.locate(position) else {
        return Ok(Next::Zeroes(len));
    };
    let len = at.left.min(len);
    let Some(part) = run.part(at.index)? else {
        return Ok(Next::Zeroes(len));
    };
    let start = part.offset.checked_add(at.within).ok_or(EUCLEAN)?;
    Ok(Next::Piece(Piece {
        part,
        start: usize::try_from(start).map_err(|_| EUCLEAN)?,
        len: usize::try_from(len).map_err(|_| EUCLEAN)?,
        extent: (part.offset, at.within.saturating_add(at.left)),
    }))
}

/// The next bytes to read: a part of a chunk.
pub(crate) struct Piece<'a> {
    pub(crate) part: &'a Part,
    /// Where they begin in its content.
    pub(crate) start: usize,
    /// How many they are.
    pub(crate) len: usize,
    /// The extent they belong to: where it begins in the content, and its length.
    extent: (u64, u64),
}

impl Piece<'_> {
    /// Whether a chunk of `size` bytes of content belongs to the file alone.
    pub(crate) fn is_of_own(&self, size: usize) -> bool {
        self.extent == (0, size as u64)
    }

    /// Where they end in the chunk's content.
    pub(crate) fn end(&self) -> usize {
        self.start.saturating_add(self.len)
    }

    fn key(&self, image: &Image, chunk: &Stored<'_>) -> Key {
        Key {
            mount: image.pool().id(),
            digest: *chunk.digest(),
            compressed: self.part.compressed,
        }
    }

    /// Loads the chunk, which must have the bytes.
    fn load<'a>(&self, slot: &'a mut Slot, key: &Key, chunk: &'a Stored<'a>) -> Result<Loaded<'a>> {
        let loaded = slot.load(key, chunk)?;
        let size = loaded.size();
        if self.end() > size {
            chunk.report(format_args!("has {size} bytes, less than a file uses"));
            return Err(EUCLEAN);
        }
        Ok(loaded)
    }

    /// Puts the chunk, of which `start` is missing, into its page cache. False if that cannot be.
    fn fill(
        &self,
        start: usize,
        image: &Image,
        chunk: &Stored<'_>,
        shared: &Shared,
    ) -> Result<bool> {
        let _reading = image.store().reading(chunk.digest())?;
        // Whoever was reading it may have put it there.
        if shared.has(start) {
            return Ok(true);
        }
        let key = self.key(image, chunk);
        let fill = |slot: &mut Slot| {
            let mut loaded = self.load(slot, &key, chunk)?;
            let filled = shared.fill(&mut loaded)?;
            shared.set_read();
            if filled {
                let stats = image.store().stats();
                stats.bytes_filled.add(loaded.size() as u64);
            }
            Ok(filled)
        };
        vfs::without_fs_reclaim(|| image.pool().with_slot(&key, fill))
    }

    /// Reads them, or the first of them.
    fn read(&self, inode: &Inode<Image>, window: &mut ReadWindow<'_>) -> Result {
        let part = self.part;
        let sb = inode.super_block();
        let image = sb.data();
        let store = image.store();
        let chunk = store.stored(&part.source, Purpose::Inode(inode.ino()))?;
        let mut shared = store.shared(&part.source, part.compressed);
        let copy = |shared: Option<&Shared>, window: &mut ReadWindow<'_>| match shared {
            Some(shared) => shared.copy(self, window),
            None => Ok(false),
        };
        if copy(shared, window)? {
            store.stats().chunk_hits.add(1);
            return Ok(());
        }
        let _reading = store.reading(chunk.digest())?;
        if part.offset > 0 {
            shared = Shared::make(sb, &chunk, part.compressed);
        }
        // Whoever was reading it may have put it there.
        if copy(shared, window)? {
            store.stats().chunk_hits.add(1);
            return Ok(());
        }
        let key = self.key(image, &chunk);
        image.pool().with_slot(&key, |slot| {
            let mut loaded = self.load(slot, &key, &chunk)?;
            let size = loaded.size();
            if self.len == size {
                return window.fill_with(size, |memory| loaded.write_to(memory));
            }
            // A chunk that belongs to this file alone is not put there.
            if !self.is_of_own(size) {
                let shared = shared.or_else(|| Shared::make(sb, &chunk, part.compressed));
                let filled = shared.map_or(Ok(false), |shared| shared.fill(&mut loaded))?;
                if filled && copy(shared, window)? {
                    return Ok(());
                }
            }
            let content = loaded.content(self.end())?.get(self.start..);
            window.write(content.ok_or(EUCLEAN)?)
        })
    }
}

/// Grows the window, at its begin and its end, to what has to be decompressed anyway, or
/// almost: the extent that it begins in from that one's begin on, since what lies before
/// comes first; the one that it ends in up to that one's end, unless most of it is left and
/// the file is not read from its begin. So a small read at random decompresses half a chunk
/// on average, and does not fill the page cache with more than that.
fn expand(run: &Run, window: &mut ReadWindow<'_>) {
    let start = window.position();
    let end = start.saturating_add(window.remaining());
    // Holes cost nothing, now or later.
    let locate_data = |position| {
        let at = run.locate(position)?;
        run.part(at.index).ok().flatten().and(Some(at))
    };
    let mut begin = start;
    if let Some(at) = locate_data(start).filter(|at| at.within <= EXPAND_BYTES) {
        begin = start.saturating_sub(at.within);
    }
    let mut new_end = end;
    // `last` is the last byte asked for.
    if let Some(last) = end.checked_sub(1).and_then(locate_data) {
        let left = last.left.saturating_sub(1);
        let asked = last.within.saturating_add(1).min(end.saturating_sub(start));
        if left <= EXPAND_BYTES && (start == 0 || left <= asked) {
            new_end = end.saturating_add(left);
        }
    }
    window.expand(begin, new_end);
}
