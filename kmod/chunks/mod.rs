// SPDX-License-Identifier: GPL-2.0

//! Where the chunks of an image are: in its packs, or loose; and their bytes, as stored.

use crate::{
    layout::Blobs,
    report::{is_passing, Counters, Faults, Purpose, Reported},
};
use kernel::{fmt, prelude::*, sync::Arc};
use loose::LooseChunks;
use packs::{Pack, Place, Places};
use puzzlefs_format::{limits, Digest};
use vfs::{lower::LowerFile, sha256};

mod index;
mod loose;
mod packs;
mod segments;

pub(crate) use index::Indexes;
pub(crate) use loose::OpenChunk;
pub(crate) use packs::{Listed, Packs};

/// The chunks of an image.
pub(crate) struct Chunks {
    blobs: Blobs,
    packs: Packs,
    loose: Arc<LooseChunks>,
    /// The image's `manifestVersion`: it says which forms a chunk may have.
    version: u64,
    faults: Faults,
    counters: Counters,
}

/// A chunk that can be read without looking anything up.
pub(crate) enum Source {
    /// In a pack.
    Packed(Place),
    /// A blob by itself.
    Loose(OpenChunk),
}

impl Chunks {
    /// The chunks in `packs`, and those that are loose in `blobs`, of an image of `version`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(blobs: Blobs, packs: Packs, version: u64, faults: Faults) -> Result<Self> {
        Ok(Self {
            blobs,
            packs,
            loose: LooseChunks::new(GFP_KERNEL_ACCOUNT)?,
            version,
            faults,
            counters: Counters::default(),
        })
    }

    /// What is counted of its reads.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
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
        let chunk = LooseChunks::get(&self.loose, *digest, open).map_err(|error| {
            if !is_passing(error) {
                self.counters.chunk_errors.add(1);
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
        self.counters.chunk_errors.add(1);
        self.faults
            .log(purpose, digest, format_args!("is in no pack"));
        Err(EIO)
    }

    /// The number of the chunk that `source` stands for, if it is in a pack: no other chunk of
    /// the image has it.
    pub(crate) fn number(&self, source: &Source) -> Option<u32> {
        match source {
            Source::Packed(place) => self.packs.number(*place),
            Source::Loose(_) => None,
        }
    }

    /// The bytes that `source` stands for.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a source of another image.
    pub(crate) fn stored<'a>(&'a self, source: &'a Source, purpose: Purpose) -> Result<Stored<'a>> {
        match source {
            Source::Packed(place) => {
                let places = Places {
                    first: *place,
                    last: *place,
                };
                self.packed(places, purpose)
            }
            Source::Loose(chunk) => Ok(Stored {
                digest: *chunk.key(),
                file: &chunk.file,
                offset: 0,
                size: chunk.file.size(),
                origin: Origin::Loose(&chunk.reported),
                chunks: self,
                purpose,
            }),
        }
    }

    fn packed(&self, places: Places, purpose: Purpose) -> Result<Stored<'_>> {
        let (entry, pack) = self.packs.get(places.last)?;
        Ok(Stored {
            digest: entry.digest,
            file: pack.file(),
            offset: entry.offset.into(),
            size: entry.size.into(),
            origin: Origin::Pack(pack, places),
            chunks: self,
            purpose,
        })
    }
}

/// What the bytes of a chunk are a part of.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// A pack, at the last of these places.
    Pack(&'a Pack, Places),
    /// A blob by itself.
    Loose(&'a Reported),
}

/// The bytes of a chunk, as stored.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    digest: Digest,
    file: &'a LowerFile,
    offset: u64,
    size: u64,
    origin: Origin<'a>,
    chunks: &'a Chunks,
    purpose: Purpose,
}

impl<'a> Stored<'a> {
    /// The digest that the bytes ought to have.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The fs-verity digest of the pack that they are in, if that vouches for them. Then they are
    /// the bytes at their offset of the file with that digest. Whether they have the chunk's digest
    /// is what the index says.
    pub(crate) fn vouched(&self) -> Option<&Digest> {
        match &self.origin {
            Origin::Pack(pack, _) => pack.fs_verity(),
            Origin::Loose(_) => None,
        }
    }

    /// Where in their file they begin, and how many they are.
    pub(crate) fn range(&self) -> [u64; 2] {
        [self.offset, self.size]
    }

    /// Where they are: in which file, from where on, and how many.
    pub(crate) fn place(&self) -> impl Iterator<Item = u64> {
        let file = self.file.id().numbers();
        Iterator::chain(file.into_iter(), [self.offset, self.size])
    }

    /// Becomes the same chunk in another pack, where it may be whole, if there is one that was not
    /// tried yet.
    ///
    /// # Errors
    ///
    /// `error` if there is none; `ENOMEM`, `EINTR` when the task was killed.
    // Not inlined: mostly nothing is damaged, and the frame is not to be on the stack where chunks
    // are read.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_another(&mut self, error: Error) -> Result {
        let Origin::Pack(_, places) = &self.origin else {
            return Err(error);
        };
        let Chunks { packs, faults, .. } = self.chunks;
        let last = packs.find_another(&self.digest, places, faults)?;
        let last = last.ok_or(error)?;
        let places = Places { last, ..*places };
        *self = self.chunks.packed(places, self.purpose)?;
        Ok(())
    }

    /// Whether a reader has found them damaged, or could not have them.
    pub(crate) fn is_damaged(&self) -> bool {
        match &self.origin {
            Origin::Loose(reported) => reported.is_known(),
            Origin::Pack(_, places) => self.chunks.packs.is_damaged(places.last),
        }
    }

    /// The `manifestVersion` of its image.
    pub(crate) fn version(&self) -> u64 {
        self.chunks.version
    }

    /// What is counted of its image's reads.
    pub(crate) fn counters(&self) -> &'a Counters {
        &self.chunks.counters
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
        let read = match &self.origin {
            Origin::Pack(pack, _) => pack.read_exact(buffer, self.offset),
            Origin::Loose(_) => self.file.read_exact(buffer, self.offset),
        };
        read.inspect_err(|error| {
            if !is_passing(*error) {
                self.report(format_args!("cannot be read: {error:?}"));
            }
        })?;
        self.counters().bytes_read.add(self.size);
        Ok(())
    }

    /// Verifies what was read, if that is not done below.
    ///
    /// # Errors
    ///
    /// `EIO` when the bytes are not those that the digest says, `EINTR` when the task was killed.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result {
        if self.vouched().is_some() {
            self.counters().chunks_vouched.add(1);
            return Ok(());
        }
        if sha256::digest(bytes)? != *self.digest.as_bytes() {
            self.counters().verify_failures.add(1);
            self.log(format_args!("its bytes are not those of that digest"));
            return Err(EIO);
        }
        self.counters().chunks_verified.add(1);
        Ok(())
    }

    /// Counts a fault of this chunk, and logs it, once.
    pub(crate) fn report(&self, what: fmt::Arguments<'_>) {
        self.counters().chunk_errors.add(1);
        self.log(what);
    }

    fn log(&self, what: fmt::Arguments<'_>) {
        let Chunks { packs, faults, .. } = self.chunks;
        let log = || faults.log(self.purpose, &self.digest, what);
        let reported = match &self.origin {
            Origin::Loose(reported) => Some(*reported),
            Origin::Pack(_, places) => {
                let number = packs.number(places.last);
                number.and_then(|number| packs.reported(number))
            }
        };
        match reported {
            Some(reported) => reported.once(log),
            // The log bounds how much it takes.
            None => drop(log()),
        }
    }
}
