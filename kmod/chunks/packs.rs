// SPDX-License-Identifier: GPL-2.0

//! Packs: blobs of many chunks. All of an image's are opened when it is mounted; the index
//! of one is loaded when a chunk is looked for in it. It says where a chunk might be: whoever
//! reads it there checks the digest.
//!
//! By `verify=fsverity` nobody does. There the pack is the file that the manifest vouches for,
//! and the filesystem below keeps it from being another one: chunks and index are what the maker
//! of the manifest has seen. An index that lies is then the maker's own, and it must not become
//! the lie of another image ([`crate::sharing`], [`super::index`]).

use super::{
    index::{Indexes, LoadedIndex},
    segments::Segments,
};
use crate::{
    layout::{self, explain, Blobs},
    report::{errno, is_passing, Faults, Reported},
    tables::Sparse,
};
use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, SetOnce,
    },
};
use puzzlefs_format::{limits, Digest, PackEntry};
use vfs::{lower::LowerFile, BitLocks, Log};

/// Where a chunk is: the number of its pack, and its place in the index there.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pack: u32,
    index: u32,
}

/// The places of one chunk that somebody has looked at, pack after pack.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) first: Place,
    pub(crate) last: Place,
}

/// What there is of a pack from its first use on.
struct InUse {
    /// Shared with the other mounts of the same file.
    index: LoadedIndex,
    /// The number of its first chunk among those of all packs.
    first: u32,
    segments: Segments,
}

impl InUse {
    fn new(file: &LowerFile, index: LoadedIndex, numbers: &Numbers) -> Result<Self> {
        let segments = Segments::new(file, index.pack_bytes())?;
        // Last: numbers that were given out do not come back.
        let first = numbers.take(index.count())?;
        Ok(Self {
            index,
            first,
            segments,
        })
    }
}

/// Gives out numbers for chunks.
struct Numbers(Atomic<u32>);

impl Default for Numbers {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Numbers {
    /// The first one of `count` numbers that nobody else gets.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when the image has too many chunks.
    fn take(&self, count: u32) -> Result<u32> {
        let mut first = self.0.load(Relaxed);
        loop {
            let end = first.saturating_add(count);
            if end > limits::MAX_PACKED_CHUNKS {
                return Err(EUCLEAN);
            }
            match self.0.cmpxchg(first, end, Relaxed) {
                Ok(first) => return Ok(first),
                Err(now) => first = now,
            }
        }
    }
}

/// An open pack.
pub(crate) struct Pack {
    digest: Digest,
    // Before the file: the key of the index is only good while somebody has it open.
    in_use: SetOnce<Result<InUse>>,
    file: LowerFile,
    /// Its fs-verity digest, if that is what vouches for its chunks.
    fs_verity: Option<Digest>,
    reported: Reported,
}

/// A pack as the manifest lists it.
pub(crate) struct Listed {
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The fs-verity digest that it ought to have.
    pub(crate) fs_verity: Option<Digest>,
}

impl Pack {
    /// The fs-verity digest of the file, if that vouches for its chunks, so that these need not be
    /// hashed.
    pub(crate) fn fs_verity(&self) -> Option<&Digest> {
        self.fs_verity.as_ref()
    }

    /// The file.
    pub(crate) fn file(&self) -> &LowerFile {
        &self.file
    }

    /// Reads from `offset` until `buffer` is full.
    ///
    /// # Errors
    ///
    /// Those of [`LowerFile::read_exact`].
    pub(crate) fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result {
        let len = buffer.len() as u64;
        let segments = self.used().map(|in_use| &in_use.segments);
        if let Some(segments) = segments {
            segments.will_be_read(&self.file, offset, len);
        }
        self.file.read_exact(buffer, offset)?;
        if let Some(segments) = segments {
            segments.have_been_read(&self.file, offset, len);
        }
        Ok(())
    }

    /// What there is of it, if it is in use.
    fn used(&self) -> Option<&InUse> {
        self.in_use.as_ref()?.as_ref().ok()
    }

    /// Logs a fault of the pack, once.
    fn report(&self, faults: &Faults, what: fmt::Arguments<'_>) {
        self.reported.once(|| faults.log_pack(&self.digest, what));
    }
}

/// The packs of an image.
pub(crate) struct Packs {
    packs: KVec<Pack>,
    indexes: Arc<Indexes>,
    /// The pack that had the last chunk that was looked for: most likely the next one too.
    last: Atomic<usize>,
    /// Of the chunks in packs that are in use.
    numbers: Numbers,
    /// By number: the chunks whose faults the log has heard of.
    reported: Sparse<Reported>,
    /// Of the packs that are being taken into use.
    loading: BitLocks,
}

impl Packs {
    /// No packs, for now, whose indexes are shared by `indexes`.
    pub(crate) fn new(indexes: Arc<Indexes>) -> Self {
        Self {
            packs: KVec::new(),
            indexes,
            last: Atomic::new(0),
            numbers: Numbers::default(),
            reported: Sparse::default(),
            loading: BitLocks::default(),
        }
    }

    /// Opens the pack that the manifest lists as `listed`. If its chunks are to be vouched for
    /// `by_fs_verity`, it must have the digest that the manifest says. Every error is explained in
    /// `log`.
    ///
    /// # Errors
    ///
    /// `ENODATA` when it is not there, `EUCLEAN` when it has another size or there are too
    /// many, `EINTR` when the task was killed, those of [`layout::require_fs_verity`], and what
    /// opening says.
    pub(crate) fn open(
        &mut self,
        blobs: &Blobs,
        listed: &Listed,
        by_fs_verity: bool,
        log: &Log<'_>,
    ) -> Result {
        let Listed { digest, size, .. } = listed;
        if vfs::killed() {
            return Err(EINTR);
        }
        if u32::try_from(self.packs.len()).unwrap_or(u32::MAX) >= limits::MAX_PACKS {
            return Err(explain(log, digest, EUCLEAN, "more packs than allowed"));
        }
        let file = blobs.open_logged(digest, log)?;
        let found = file.size();
        if found != *size {
            log.error(format_args!(
                "blob sha256:{digest}: {found} bytes, not {size} as the manifest says: copy or \
                 build the image again"
            ));
            return Err(EUCLEAN);
        }
        let fs_verity = match by_fs_verity {
            true => Some(layout::require_fs_verity(
                &file,
                digest,
                listed.fs_verity.as_ref(),
                log,
            )?),
            false => None,
        };
        let pack = Pack {
            digest: *digest,
            in_use: SetOnce::new(),
            file,
            fs_verity,
            reported: Reported::default(),
        };
        Ok(self.packs.push(pack, GFP_KERNEL_ACCOUNT)?)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.packs.len()
    }

    /// Where the chunk with this digest is. A pack that is none, or cannot be read, has no
    /// chunks: `faults` are told.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR` when the task was killed.
    pub(crate) fn find(&self, digest: &Digest, faults: &Faults) -> Result<Option<Place>> {
        let last = self.last.load(Relaxed).min(self.packs.len());
        let order = Iterator::chain(last..self.packs.len(), 0..last);
        let found = self.find_in_any(order, digest, faults)?;
        if let Some(place) = found {
            self.last.store(number(place.pack)?, Relaxed);
        }
        Ok(found)
    }

    /// Where else the chunk is. The caller has looked at `places` of it, pack after pack.
    ///
    /// # Errors
    ///
    /// As of [`Packs::find`].
    pub(crate) fn find_another(
        &self,
        digest: &Digest,
        places: &Places,
        faults: &Faults,
    ) -> Result<Option<Place>> {
        let [first, last] = [number(places.first.pack)?, number(places.last.pack)?];
        let next = last.saturating_add(1);
        // From the last pack on they begin again in front, up to the first one.
        let (behind, front) = match last < first {
            true => (next..first, 0..0),
            false => (next..self.packs.len(), 0..first),
        };
        self.find_in_any(Iterator::chain(behind, front), digest, faults)
    }

    fn find_in_any(
        &self,
        order: impl Iterator<Item = usize>,
        digest: &Digest,
        faults: &Faults,
    ) -> Result<Option<Place>> {
        for number in order {
            let pack = self.packs.get(number).ok_or(EINVAL)?;
            if let Some(index) = self.find_in(number, pack, digest, faults)? {
                let pack = u32::try_from(number).map_err(|_| EFBIG)?;
                return Ok(Some(Place { pack, index }));
            }
        }
        Ok(None)
    }

    fn find_in(
        &self,
        number: usize,
        pack: &Pack,
        digest: &Digest,
        faults: &Faults,
    ) -> Result<Option<u32>> {
        let entries = self.in_use(number, pack);
        let entries = entries.and_then(|in_use| in_use.index.get(&pack.file));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) if is_passing(error) => return Err(error),
            Err(EUCLEAN) => {
                pack.report(
                    faults,
                    format_args!("is not a pack, or has too many chunks"),
                );
                return Ok(None);
            }
            Err(error) => {
                pack.report(faults, format_args!("cannot be read: {error:?}"));
                return Ok(None);
            }
        };
        let index = entries.index()?;
        let found = index.find(digest);
        Ok(found.filter(|found| match index.get(*found) {
            Ok(_) => true,
            Err(error) => {
                pack.report(
                    faults,
                    format_args!("has no place for chunk sha256:{digest}: {error}"),
                );
                false
            }
        }))
    }

    /// What there is of `pack`, taken into use if it was not. Of what is no pack that is
    /// remembered, and it is not read again.
    fn in_use<'a>(&self, number: usize, pack: &'a Pack) -> Result<&'a InUse> {
        if pack.in_use.as_ref().is_none() {
            let [hash, ..] = number.to_le_bytes();
            let _loading = self.loading.lock(hash.into())?;
            if pack.in_use.as_ref().is_none() {
                match vfs::without_fs_reclaim(|| self.load(pack)) {
                    Err(error) if error != EUCLEAN => return Err(error),
                    result => pack.in_use.populate(result),
                };
            }
        }
        let in_use = pack.in_use.as_ref().ok_or(EIO)?;
        in_use.as_ref().map_err(|error| *error)
    }

    fn load(&self, pack: &Pack) -> Result<InUse> {
        let index = self.indexes.load(&pack.file, pack.fs_verity.is_some())?;
        InUse::new(&pack.file, index, &self.numbers)
    }

    /// The number of the chunk at `place`: no other chunk in a pack of the image has it.
    pub(crate) fn number(&self, place: Place) -> Option<u32> {
        let pack = self.packs.get(number(place.pack).ok()?)?;
        Some(pack.used()?.first.saturating_add(place.index))
    }

    /// Whether the chunk at `place` was reported.
    pub(crate) fn is_damaged(&self, place: Place) -> bool {
        let number = self.number(place);
        let reported = number.and_then(|number| self.reported.get(number));
        reported.is_some_and(Reported::is_known)
    }

    /// What is known of faults of the chunk with this number. None for want of memory.
    pub(crate) fn reported(&self, number: u32) -> Option<&Reported> {
        if self.reported.get(number).is_none() {
            self.reported.populate(number, Reported::default()).ok()?;
        }
        self.reported.get(number)
    }

    /// The chunk at `place`: its entry in the index, and its pack.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` for an entry that is not sound, `EINVAL` for a place of another image, and those
    /// of [`super::index::Index::get`].
    pub(crate) fn get(&self, place: Place) -> Result<(PackEntry, &Pack)> {
        let pack = self.packs.get(number(place.pack)?).ok_or(EINVAL)?;
        let in_use = pack.used().ok_or(EINVAL)?;
        let entries = in_use.index.get(&pack.file)?;
        let entry = entries.index()?.get(place.index).map_err(errno)?;
        Ok((entry, pack))
    }
}

/// The number of a pack, as an index.
fn number(pack: u32) -> Result<usize> {
    usize::try_from(pack).map_err(|_| EFBIG)
}
