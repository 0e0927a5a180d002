// SPDX-License-Identifier: Apache-2.0
//! Where chunks lie: in packs, or loose. Reading them from there, each checked against
//! its digest, as an index may say anything.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

use anyhow::{ensure, Context, Error, Result};
use puzzlefs_format::{limits, Digest};

use crate::base::digest::{sha256, Blob, Hashing};
use crate::base::error::{is_trouble, said_by_system};
use crate::base::progress::Progress;
use crate::chunks::open::Open;
use crate::chunks::pack;
use crate::chunks::presence::{lacking, not_here};
use crate::layout::Layout;

/// Where chunks of a layout lie, as far as some packs of it say.
pub struct Places<'a> {
    layout: &'a Layout,
    packs: Vec<Pack>,
    open: Open,
    /// A pack that could not be read, and why: any chunk may be in it.
    unread: Option<(Digest, i32)>,
    /// In order of the digests; one that several packs have comes as often.
    table: Vec<Place>,
    /// Of lazy packs the offsets of those chunks that are not there, as far as records say.
    lacking: BTreeMap<u32, HashSet<u32>>,
}

/// A pack of a layout.
pub struct Pack {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// Where a pack has a chunk, as its index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The chunk.
    pub digest: Digest,
    /// Index of the pack in [`Places::packs`].
    pub pack: u32,
    /// Where in the pack it begins.
    pub offset: u32,
    /// Its bytes.
    pub size: u32,
}

/// Packs by their index in [`Places::packs`], each with its fs-verity digest.
pub type Measured = Vec<(u32, Result<[u8; 32]>)>;

/// The bytes of a chunk in some file, unchecked.
pub struct Slice {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Slice {
    /// How many.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads some of them; `at` and the length must be within.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        ensure!(
            end.is_some_and(|end| end <= self.size),
            "a read beyond the chunk's end"
        );
        Ok(self.file.read_exact_at(buffer, self.offset + at)?)
    }
}

impl<'a> Places<'a> {
    /// Reads the indexes of `packs`. What is wrong with some does not keep the others from
    /// being used.
    pub fn open(layout: &'a Layout, packs: impl IntoIterator<Item = Digest>) -> (Self, Vec<Error>) {
        let mut places = Places {
            layout,
            packs: Vec::new(),
            open: Open::default(),
            unread: None,
            table: Vec::new(),
            lacking: BTreeMap::new(),
        };
        let mut faults = Vec::new();
        for digest in packs {
            if let Err(fault) = places.add(digest) {
                let said = said_by_system(&fault);
                let errno = said.iter().find_map(io::Error::raw_os_error);
                if let (true, Some(errno)) = (is_trouble(&fault), errno) {
                    places.unread = Some((digest, errno));
                }
                faults.push(fault);
            }
        }
        places.table.sort_unstable();
        (places, faults)
    }

    fn add(&mut self, digest: Digest) -> Result<()> {
        let number = u32::try_from(self.packs.len())?;
        let (file, entries) = pack::open(self.layout, &digest)?;
        ensure!(
            self.table.len() + entries.len() <= limits::MAX_PACKED_CHUNKS as usize,
            "the packs up to sha256:{digest} have more than {} chunks",
            limits::MAX_PACKED_CHUNKS
        );
        if let Some(lacking) = lacking(self.layout, &digest, &entries)? {
            self.lacking.insert(number, lacking);
        }
        let size = file.metadata()?.len();
        self.packs.push(Pack { digest, size });
        self.table.extend(entries.into_iter().map(|entry| Place {
            digest: entry.digest,
            pack: number,
            offset: entry.offset,
            size: entry.size,
        }));
        Ok(())
    }

    /// Whether a pack may lack chunks: then it has not the digest that its name says.
    pub fn is_lazy(&self, pack: &Pack) -> bool {
        let mut lazy = self.lacking.keys();
        lazy.any(|number| self.packs[*number as usize].digest == pack.digest)
    }

    /// Whether any pack may.
    pub fn has_lazy(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// Whether what should be at a place is there, as far as records say. It may have come meanwhile.
    pub fn is_here(&self, place: &Place) -> bool {
        let lacking = self.lacking.get(&place.pack);
        lacking.is_none_or(|lacking| !lacking.contains(&place.offset))
    }

    /// Whether a chunk is anywhere in the packs.
    pub fn has_here(&self, chunk: &Digest) -> bool {
        self.of(chunk).iter().any(|place| self.is_here(place))
    }

    /// Opens all packs, and keeps them open: what is removed meanwhile is still read.
    pub(crate) fn keep_open(&mut self) -> crate::Result<()> {
        self.open = Open::up_to(self.packs.len());
        for pack in &self.packs {
            self.file(pack)?;
        }
        Ok(())
    }

    /// The layout of the packs.
    pub fn layout(&self) -> &Layout {
        self.layout
    }

    /// The packs that could be opened.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    fn pack(&self, place: &Place) -> &Pack {
        &self.packs[place.pack as usize]
    }

    /// The file that a pack is, opened anew if it was closed meanwhile.
    pub(crate) fn file(&self, pack: &Pack) -> Result<Arc<File>> {
        self.open.get(self.layout, &pack.digest)
    }

    /// What a pack is, with its fs-verity digest.
    pub fn measure_pack(&self, pack: &Pack) -> Result<Blob> {
        // A descriptor of its own, as threads read from others at once.
        let mut file = self.layout.open_blob(&pack.digest)?;
        let mut hashing = Hashing::new(io::sink());
        hashing.measure();
        io::copy(&mut file, &mut hashing)
            .with_context(|| format!("reading the pack sha256:{}", pack.digest))?;
        Ok(hashing.finish().1)
    }

    /// All that the packs list, in order of the digests.
    pub fn table(&self) -> &[Place] {
        &self.table
    }

    /// Where packs have a chunk.
    pub fn of(&self, chunk: &Digest) -> &[Place] {
        let start = self.table.partition_point(|place| place.digest < *chunk);
        let rest = &self.table[start..];
        &rest[..rest.partition_point(|place| place.digest == *chunk)]
    }

    /// What is at a place, unchecked.
    pub fn peek(&self, place: &Place) -> Result<Vec<u8>> {
        let pack = self.pack(place);
        let mut bytes = vec![0; place.size as usize];
        self.file(pack)?
            .read_exact_at(&mut bytes, place.offset.into())
            .with_context(|| format!("reading the pack sha256:{}", pack.digest))?;
        Ok(bytes)
    }

    /// What is at a place, if it is the chunk that should be there.
    pub fn read_at(&self, place: &Place) -> Result<Vec<u8>> {
        let bytes = self.peek(place)?;
        let pack = &self.pack(place).digest;
        let is_it = sha256(&[&bytes]) == place.digest;
        if !is_it && !self.is_here(place) {
            return Err(not_here(&place.digest, pack).into());
        }
        ensure!(
            is_it,
            "the pack sha256:{pack} is damaged: the chunk sha256:{} is not where its index \
             says; delete {} and copy or build its images again",
            place.digest,
            self.layout.blob_path(pack).display()
        );
        Ok(bytes)
    }

    /// The fs-verity digests of some packs, or why not: all of a pack is what its name says, and
    /// all chunks are what its index says.
    pub fn measure(&self, packs: &BTreeSet<u32>, progress: &dyn Progress) -> Result<Measured> {
        let mut chunks: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        for place in self
            .table
            .iter()
            .filter(|place| packs.contains(&place.pack))
        {
            chunks.entry(place.pack).or_default().push(*place);
        }
        let list: Vec<(u32, Vec<Place>)> = chunks.into_iter().collect();
        let next = AtomicUsize::new(0);
        let measure = || {
            let mut measured = Vec::new();
            while let Some((pack, places)) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                measured.push((*pack, self.measure_one(*pack, places)));
                progress.advance(1);
            }
            measured
        };
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let mut measured: Measured = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers.min(8)).map(|_| scope.spawn(measure)).collect();
            let joined = threads.into_iter().map(|thread| {
                let panicked = |panic| std::panic::resume_unwind(panic);
                thread.join().unwrap_or_else(panicked)
            });
            joined.flatten().collect()
        });
        measured.sort_by_key(|(pack, _)| *pack);
        Ok(measured)
    }

    fn measure_one(&self, number: u32, places: &[Place]) -> Result<[u8; 32]> {
        let pack = &self.packs[number as usize];
        places
            .iter()
            .try_for_each(|place| self.read_at(place).map(drop))?;
        let blob = self.measure_pack(pack)?;
        ensure!(
            blob.digest == pack.digest,
            "the pack sha256:{} has the digest sha256:{}",
            pack.digest,
            blob.digest
        );
        blob.verity.context("it was not measured")
    }

    /// The stored bytes of a chunk, from wherever they are sound.
    pub fn read(&self, chunk: &Digest) -> Result<Vec<u8>> {
        let mut fault = None;
        for place in self.of(chunk) {
            match self.read_at(place) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        let loose = self.layout.read_blob(chunk, limits::MAX_CHUNK_BYTES);
        loose.map_err(|error| fault.unwrap_or_else(|| self.not_found(error.into())))
    }

    /// Whether all packs could be read, damaged or not.
    pub fn is_complete(&self) -> bool {
        self.unread.is_none()
    }

    /// Why a chunk was not found that is not loose, if `error` says no more.
    fn not_found(&self, error: Error) -> Error {
        match self.unread {
            Some((pack, errno)) if !is_trouble(&error) => {
                let error = Error::new(io::Error::from_raw_os_error(errno));
                error.context(format!("chunks that may be in the pack sha256:{pack}"))
            }
            _ => error,
        }
    }

    /// A chunk's bytes, to read only some of them.
    pub fn slice(&self, chunk: &Digest) -> Result<Slice> {
        let places = self.of(chunk);
        let here = places.iter().find(|place| self.is_here(place));
        if let Some(place) = here.or(places.first()) {
            return Ok(Slice {
                file: self.file(self.pack(place))?,
                offset: place.offset.into(),
                size: place.size.into(),
            });
        }
        let file = self.layout.open_blob(chunk);
        let file = file.map_err(|error| self.not_found(error.into()))?;
        let size = file.metadata()?.len();
        Ok(Slice {
            file: Arc::new(file),
            offset: 0,
            size,
        })
    }
}
