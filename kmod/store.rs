// SPDX-License-Identifier: GPL-2.0

//! Where the chunks of an image are: in its packs, or loose.

use crate::{
    blobs::Blobs,
    loose::{LooseChunks, OpenChunk},
    pack::{Pack, PackedChunk, Packs},
    NAME,
};
use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use puzzlefs_format::{limits, Digest};
use vfs::{lower::LowerFile, sha256, BitGuard, BitLocks};

/// Remembers that the log has heard of a chunk's fault.
pub(crate) struct Reported(Atomic<u32>);

impl Default for Reported {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

/// The chunks of an image.
pub(crate) struct Store {
    blobs: Blobs,
    packs: Packs,
    loose: Arc<LooseChunks>,
    /// The image's `manifestVersion`: it says which forms a chunk may have.
    version: u64,
    /// Of the chunks that are being read.
    reading: BitLocks,
}

/// A chunk that can be read without looking anything up.
pub(crate) enum Source {
    /// Index in the table of [`Packs`].
    Packed(usize),
    /// A blob by itself.
    Loose(OpenChunk),
}

impl Store {
    /// The chunks in `packs`, and those that are loose in `blobs`, of an image of
    /// `version`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(blobs: Blobs, packs: Packs, version: u64) -> Result<Self> {
        Ok(Self {
            blobs,
            packs,
            loose: LooseChunks::new()?,
            version,
            reading: BitLocks::default(),
        })
    }

    /// Makes the chunk with this digest ready to be read.
    ///
    /// # Errors
    ///
    /// `EIO` when there is none, and what opening a loose one says.
    pub(crate) fn acquire(&self, digest: &Digest) -> Result<Source> {
        Ok(match self.packs.find(digest) {
            Some(index) => Source::Packed(index),
            None => Source::Loose(self.loose.acquire(&self.blobs, digest)?),
        })
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

    /// The bytes that `source` stands for.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a source of another store.
    pub(crate) fn stored<'a>(&'a self, source: &'a Source) -> Result<Stored<'a>> {
        Ok(match source {
            Source::Packed(index) => {
                let (chunk, pack) = self.packs.get(*index).ok_or(EINVAL)?;
                let entry = chunk.entry();
                Stored {
                    digest: &entry.digest,
                    file: pack.file(),
                    offset: entry.offset.into(),
                    size: entry.size.into(),
                    reported: &chunk.reported,
                    packed: Some(Packed {
                        number: *index,
                        chunk,
                        pack,
                    }),
                    version: self.version,
                }
            }
            Source::Loose(chunk) => Stored {
                digest: &chunk.digest,
                file: &chunk.file,
                offset: 0,
                size: chunk.file.size(),
                reported: &chunk.reported,
                packed: None,
                version: self.version,
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
    /// Its place in the table of [`Packs`].
    pub(crate) number: usize,
    pub(crate) chunk: &'a PackedChunk,
    pack: &'a Pack,
}

/// The bytes of a chunk, as stored.
pub(crate) struct Stored<'a> {
    digest: &'a Digest,
    file: &'a LowerFile,
    offset: u64,
    size: u64,
    reported: &'a Reported,
    packed: Option<Packed<'a>>,
    version: u64,
}

impl<'a> Stored<'a> {
    /// The digest that the bytes ought to have.
    pub(crate) fn digest(&self) -> &Digest {
        self.digest
    }

    /// The `manifestVersion` of its image.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The chunk in its pack, if it is in one.
    pub(crate) fn packed(&self) -> Option<&Packed<'a>> {
        self.packed.as_ref()
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
            .inspect_err(|error| match *error {
                // Not the chunk's fault: a later one must still be heard of.
                EINTR | ERESTARTSYS | ENOMEM => {}
                _ => self.report(format_args!("cannot be read: {error:?}")),
            })?;
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
            self.report(format_args!("its bytes are not those of that digest"));
            return Err(EIO);
        }
        Ok(())
    }

    /// Logs a fault of this chunk, once.
    pub(crate) fn report(&self, what: fmt::Arguments<'_>) {
        if self.reported.0.xchg(1, Relaxed) == 0 {
            vfs::warn(NAME, format_args!("chunk sha256:{}: {what}", self.digest));
        }
    }
}
