// SPDX-License-Identifier: GPL-2.0

//! Where the chunks of an image are: in its packs, or loose.

use crate::{
    blobs::Blobs,
    faults::{is_passing, Faults, Purpose, Reported},
    fingerprint::FilesystemNumber,
    loose::{self, LooseChunks, OpenChunk},
    pack::{ChunkState, Pack, Packs, Place},
    shared::Shared,
    stats::Stats,
};
use kernel::{
    fmt,
    prelude::*,
    sync::{atomic::Atomic, Arc},
};
use puzzlefs_format::{limits, Digest};
use vfs::{lower::LowerFile, sha256, BitGuard, BitLocks};

/// The chunks of an image.
pub(crate) struct Store {
    filesystem: FilesystemNumber,
    blobs: Blobs,
    packs: Packs,
    loose: Arc<LooseChunks>,
    /// The image's `manifestVersion`: it says which forms a chunk may have.
    version: u64,
    /// Of the chunks that are being read.
    reading: BitLocks,
    /// How many chunks have a page cache of their own.
    shared: Atomic<u32>,
    faults: Faults,
    stats: Stats,
}

/// A chunk that can be read without looking anything up.
pub(crate) enum Source {
    /// In a pack.
    Packed(Place),
    /// A blob by itself.
    Loose(OpenChunk),
}

impl Store {
    /// The chunks in `packs`, and those that are loose in `blobs`, on `filesystem`, of an image of
    /// `version`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        filesystem: FilesystemNumber,
        blobs: Blobs,
        packs: Packs,
        version: u64,
        faults: Faults,
    ) -> Result<Self> {
        Ok(Self {
            filesystem,
            blobs,
            packs,
            loose: LooseChunks::new()?,
            version,
            reading: BitLocks::default(),
            shared: Atomic::new(0),
            faults,
            stats: Stats::default(),
        })
    }

    /// The image's `manifestVersion`.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What is counted of its reads.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The log of its faults.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether it has packs.
    pub(crate) fn has_packs(&self) -> bool {
        self.packs.len() > 0
    }

    /// How many blobs are open: all packs, and the loose chunks of open files.
    pub(crate) fn open_blobs(&self) -> usize {
        self.packs.len().saturating_add(self.loose.len())
    }

    /// Makes the chunk with this digest ready to be read.
    ///
    /// # Errors
    ///
    /// `EIO` when there is none, and what opening a loose one says.
    pub(crate) fn acquire(&self, digest: &Digest, purpose: Purpose) -> Result<Source> {
        if let Some(place) = self.packs.find(digest, &self.faults)? {
            return Ok(Source::Packed(place));
        }
        let open = || loose::open(&self.blobs, digest);
        let chunk = self.loose.get(*digest, open).map_err(|error| {
            if !is_passing(error) {
                self.stats.chunk_errors.add(1);
                self.faults
                    .log(purpose, digest, format_args!("cannot be opened: {error:?}"));
            }
            match error {
                ENOENT | EINVAL | ELOOP => EIO,
                _ => error,
            }
        })?;
        Ok(Source::Loose(chunk))
    }

    /// The same of a chunk that is in a pack: nothing is looked up in the layout.
    ///
    /// # Errors
    ///
    /// `EIO` when it is in none.
    pub(crate) fn acquire_packed(&self, digest: &Digest, purpose: Purpose) -> Result<Source> {
        if let Some(place) = self.packs.find(digest, &self.faults)? {
            return Ok(Source::Packed(place));
        }
        self.stats.chunk_errors.add(1);
        self.faults
            .log(purpose, digest, format_args!("is in no pack"));
        Err(EIO)
    }

    /// Waits until nobody else reads the chunk with this digest. So of many readers that
    /// want it at once only the first has the work, and the others find what it leaves them.
    ///
    /// # Errors
    ///
    /// `EINTR` when the reader was killed.
    pub(crate) fn reading(&self, digest: &Digest) -> Result<BitGuard<'_>> {
        self.reading.lock(hash(digest))
    }

    /// The same if nobody else reads it; for who reads several, and must not wait.
    pub(crate) fn try_reading(&self, digest: &Digest) -> Option<BitGuard<'_>> {
        self.reading.try_lock(hash(digest))
    }

    /// The page cache of the chunk that `source` stands for, stored compressed or not, if it has
    /// one.
    pub(crate) fn shared(&self, source: &Source, compressed: bool) -> Option<&Shared> {
        match source {
            Source::Packed(place) => self.packs.state(*place)?.shared(compressed),
            Source::Loose(_) => None,
        }
    }

    /// The bytes that `source` stands for.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a source of another store.
    pub(crate) fn stored<'a>(&'a self, source: &'a Source, purpose: Purpose) -> Result<Stored<'a>> {
        Ok(match source {
            Source::Packed(place) => {
                let (entry, state, pack) = self.packs.get(*place)?;
                Stored {
                    digest: entry.digest,
                    file: pack.file(),
                    offset: entry.offset.into(),
                    size: entry.size.into(),
                    reported: &state.reported,
                    packed: Some(Packed { state, pack }),
                    store: self,
                    purpose,
                }
            }
            Source::Loose(chunk) => Stored {
                digest: *chunk.key(),
                file: &chunk.file,
                offset: 0,
                size: chunk.file.size(),
                reported: &chunk.reported,
                packed: None,
                store: self,
                purpose,
            },
        })
    }
}

fn hash(digest: &Digest) -> u16 {
    let [first, second, ..] = *digest.as_bytes();
    u16::from_le_bytes([first, second])
}

/// A chunk in a pack.
pub(crate) struct Packed<'a> {
    /// What is remembered of it.
    pub(crate) state: &'a ChunkState,
    pack: &'a Pack,
}

/// The bytes of a chunk, as stored.
pub(crate) struct Stored<'a> {
    digest: Digest,
    file: &'a LowerFile,
    offset: u64,
    size: u64,
    reported: &'a Reported,
    packed: Option<Packed<'a>>,
    store: &'a Store,
    purpose: Purpose,
}

impl<'a> Stored<'a> {
    /// The digest that the bytes ought to have.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Where they are: on which filesystem and in which file, from where on, and how many.
    pub(crate) fn place(&self) -> impl Iterator<Item = u64> {
        let file = self.file.id().numbers();
        let rest = [self.store.filesystem.get(), self.offset, self.size];
        Iterator::chain(file.into_iter(), rest)
    }

    /// The `manifestVersion` of its image.
    pub(crate) fn version(&self) -> u64 {
        self.store.version
    }

    /// What is counted of its image's reads.
    pub(crate) fn stats(&self) -> &Stats {
        &self.store.stats
    }

    /// The chunk in its pack, if it is in one.
    pub(crate) fn packed(&self) -> Option<&Packed<'a>> {
        self.packed.as_ref()
    }

    /// How many chunks of the image have a page cache of their own.
    pub(crate) fn shared_chunks(&self) -> &Atomic<u32> {
        &self.store.shared
    }

    /// How many they are.
    ///
    /// # Errors
    ///
    /// `EIO` when they are too many for a chunk.
    pub(crate) fn size(&self) -> Result<usize> {
        if self.size > limits::MAX_CHUNK_BYTES {
            let size = self.size;
            self.report(format_args!("{size} bytes are too many for a chunk"));
            return Err(EIO);
        }
        usize::try_from(self.size).map_err(|_| EIO)
    }

    /// Reads them into `buffer`, which has room for [`Stored::size`]. Nothing may be done
    /// with them before they are verified.
    ///
    /// # Errors
    ///
    /// What reading says.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result {
        self.file
            .read_exact(buffer, self.offset)
            .inspect_err(|error| {
                if !is_passing(*error) {
                    self.report(format_args!("cannot be read: {error:?}"));
                }
            })?;
        self.stats().bytes_read.add(self.size);
        if let Some(packed) = &self.packed {
            packed.pack.has_been_read(self.offset, self.size);
        }
        Ok(())
    }

    /// Verifies what was read.
    ///
    /// # Errors
    ///
    /// `EIO` when the bytes are not those that the digest says.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result {
        if sha256::digest(bytes) != *self.digest.as_bytes() {
            self.stats().verify_failures.add(1);
            self.log(format_args!("its bytes are not those of that digest"));
            return Err(EIO);
        }
        self.stats().chunks_verified.add(1);
        Ok(())
    }

    /// Counts a fault of this chunk, and logs it, once.
    pub(crate) fn report(&self, what: fmt::Arguments<'_>) {
        self.stats().chunk_errors.add(1);
        self.log(what);
    }

    fn log(&self, what: fmt::Arguments<'_>) {
        let faults = &self.store.faults;
        self.reported
            .once(|| faults.log(self.purpose, &self.digest, what));
    }
}
