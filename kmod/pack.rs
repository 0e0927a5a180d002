// SPDX-License-Identifier: GPL-2.0

//! Packs: blobs of many chunks. All of an image's are opened when it is mounted, and their
//! indexes become one table. It says where a chunk might be: whoever reads it there
//! checks the digest.

use crate::{
    blobs::{explain, Blobs},
    error::errno,
    faults::Reported,
    shared::SharedState,
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use puzzlefs_format::{
    self as format, limits, Digest, Manifest, PackEntry, PackIndex, PackTrailer, MEDIA_TYPE_PACK,
};
use vfs::{lower::LowerFile, Log};

/// A chunk in a pack.
pub(crate) struct PackedChunk {
    entry: PackEntry,
    /// Index of its pack.
    pack: usize,
    pub(crate) reported: Reported,
    pub(crate) shared: SharedState,
}

impl PackedChunk {
    /// What the index says of it.
    pub(crate) fn entry(&self) -> &PackEntry {
        &self.entry
    }
}

/// What is dropped from the page cache of the filesystem below at once, in bytes.
const SEGMENT_BYTES: u64 = 1 << 20;

/// An open pack. What was read of it is in this mount's page cache, decompressed: there is
/// no use in keeping it in that of the filesystem below. But chunks share pages there, and
/// readahead makes large folios of them, so nothing is dropped until as many bytes were
/// read as a whole segment has.
pub(crate) struct Pack {
    file: LowerFile,
    /// Bytes read of each segment.
    read: KVec<Atomic<u32>>,
    /// Its chunks in the table of all.
    chunks: Range<usize>,
}

impl Pack {
    fn new(file: LowerFile, size: u64, chunks: Range<usize>) -> Result<Self> {
        let segments = size.div_ceil(SEGMENT_BYTES);
        let segments = usize::try_from(segments).map_err(|_| EFBIG)?;
        let mut read = KVec::with_capacity(segments, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..segments {
            read.push(Atomic::new(0), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { file, read, chunks })
    }

    /// The file.
    pub(crate) fn file(&self) -> &LowerFile {
        &self.file
    }

    /// Notes that `len` bytes from `offset` on were read.
    pub(crate) fn has_been_read(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut start = offset;
        while start < end {
            let segment = start / SEGMENT_BYTES;
            let next = segment.saturating_add(1).saturating_mul(SEGMENT_BYTES);
            let part = next.min(end).saturating_sub(start);
            self.count(segment, part);
            start = next;
        }
    }

    fn count(&self, segment: u64, bytes: u64) {
        let index = usize::try_from(segment).ok();
        let (Some(read), Ok(bytes)) = (
            index.and_then(|index| self.read.get(index)),
            u32::try_from(bytes),
        ) else {
            return;
        };
        let read_now = read.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if u64::from(read_now) >= SEGMENT_BYTES {
            read.store(0, Relaxed);
            // The segment before too: of what was read last, the kernel still holds folios
            // on their way to the LRU lists (`folio_batch`), and cannot drop them yet.
            let start = segment.saturating_sub(1).saturating_mul(SEGMENT_BYTES);
            let end = segment.saturating_add(1).saturating_mul(SEGMENT_BYTES);
            self.file.forget(start, end.saturating_sub(start));
        }
    }
}

/// The packs of an image.
pub(crate) struct Packs {
    packs: KVec<Pack>,
    /// The chunks of all packs, pack by pack, in ascending order of their digests there.
    chunks: KVVec<PackedChunk>,
    /// The pack that had the last chunk that was looked for: most likely the next one too.
    last: Atomic<usize>,
}

impl Default for Packs {
    fn default() -> Self {
        Self {
            packs: KVec::new(),
            chunks: KVVec::new(),
            last: Atomic::new(0),
        }
    }
}

impl Packs {
    /// Opens the packs that `manifest` lists. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when one is not there, `EUCLEAN` when it is none or the image is over the
    /// limits, `EINTR` when the task was killed, and what reading says.
    pub(crate) fn open(blobs: &Blobs, manifest: &Manifest<'_>, log: &Log<'_>) -> Result<Self> {
        let mut packs = Self::default();
        for layer in manifest.layers() {
            let layer = layer.map_err(errno)?;
            if layer.media_type == MEDIA_TYPE_PACK {
                if vfs::killed() {
                    return Err(EINTR);
                }
                packs.add(blobs, &layer.digest, log)?;
            }
        }
        Ok(packs)
    }

    fn add(&mut self, blobs: &Blobs, digest: &Digest, log: &Log<'_>) -> Result {
        let file = blobs.open_logged(digest, log)?;
        let unreadable = |error| explain(log, digest, error, "cannot be read");
        let not_a_pack = |error| {
            log.error(format_args!("blob sha256:{digest}: {error}"));
            errno(error)
        };

        let size = file.size();
        let mut trailer = [0; PackTrailer::BYTES];
        let at = size.checked_sub(trailer.len() as u64);
        let at = at.ok_or_else(|| not_a_pack(format::Error::BadPack))?;
        file.read_exact(&mut trailer, at).map_err(unreadable)?;
        let trailer = PackTrailer::parse(trailer, size).map_err(not_a_pack)?;

        let count = usize::try_from(trailer.count()).map_err(|_| EFBIG)?;
        let packed = self.chunks.len().saturating_add(count);
        let max_packs = usize::try_from(limits::MAX_PACKS).map_err(|_| EFBIG)?;
        let max_packed = usize::try_from(limits::MAX_PACKED_CHUNKS).map_err(|_| EFBIG)?;
        if self.packs.len() >= max_packs || packed > max_packed {
            return Err(explain(log, digest, EUCLEAN, "more packs than allowed"));
        }

        let mut index = KVVec::<u8>::zeroed(trailer.index_bytes(), GFP_KERNEL)?;
        file.read_exact(&mut index, trailer.index_offset())
            .map_err(unreadable)?;
        let index = PackIndex::new(&index, &trailer).map_err(not_a_pack)?;
        let start = self.chunks.len();
        let chunks = start..start.saturating_add(count);
        self.chunks.reserve(count, GFP_KERNEL_ACCOUNT)?;
        let mut last = None;
        for entry in index.iter() {
            let entry = entry.map_err(not_a_pack)?;
            // Or else it could not be found.
            if last.replace(entry.digest) >= Some(entry.digest) {
                return Err(not_a_pack(format::Error::BadPack));
            }
            let chunk = PackedChunk {
                entry,
                pack: self.packs.len(),
                reported: Reported::default(),
                shared: SharedState::default(),
            };
            self.chunks.push(chunk, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(self
            .packs
            .push(Pack::new(file, size, chunks)?, GFP_KERNEL_ACCOUNT)?)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.packs.len()
    }

    /// Where in the table the chunk with this digest is.
    pub(crate) fn find(&self, digest: &Digest) -> Option<usize> {
        let last = self.last.load(Relaxed);
        (0..self.packs.len()).find_map(|step| {
            let index = last.checked_add(step)?.checked_rem(self.packs.len())?;
            let found = self.find_in(self.packs.get(index)?, digest)?;
            self.last.store(index, Relaxed);
            Some(found)
        })
    }

    fn find_in(&self, pack: &Pack, digest: &Digest) -> Option<usize> {
        let chunks = self.chunks.get(pack.chunks.clone())?;
        let found = chunks.binary_search_by(|chunk| chunk.entry.digest.cmp(digest));
        pack.chunks.start.checked_add(found.ok()?)
    }

    /// The chunk at `index` of the table, and the pack that it lies in.
    pub(crate) fn get(&self, index: usize) -> Option<(&PackedChunk, &Pack)> {
        let chunk = self.chunks.get(index)?;
        Some((chunk, self.packs.get(chunk.pack)?))
    }
}
