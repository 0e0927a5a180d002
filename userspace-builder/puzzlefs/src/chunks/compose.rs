// SPDX-License-Identifier: Apache-2.0
//! Packs that a layout does not have, put together from chunks that it has.
//!
//! A chunk is named by the digest of its stored bytes, so a pack without gaps is determined by its
//! end: the chunks where its index says, then the end itself.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, Digest, Manifest, PackEntry, PackTrailer};
use puzzlefs_format::{MEDIA_TYPE_CHUNK, MEDIA_TYPE_PACK};

use crate::base::digest::sha256;
use crate::base::error::Error;
use crate::chunks::open::Open;
use crate::chunks::pack::{self, end_of, End};
use crate::chunks::places::Places;
use crate::layout::pulled::Record;
use crate::layout::Layout;

/// Bytes of all ends of an image's packs, at most.
const MAX_ENDS: u64 = limits::MAX_PACKED_CHUNKS as u64 * 40 + limits::MAX_PACKS as u64 * 8 + 8;
/// The last bytes of a blob of ends: so it is not taken for a pack, which an end would make of it.
const MAGIC: [u8; 4] = *b"PzEn";

/// Puts packs together.
pub struct Composer {
    layout: Layout,
    ends: HashMap<Digest, End>,
    /// Where the layout has chunks of them: in which packs, or in a blob of their own.
    places: HashMap<Digest, Vec<Place>>,
    open: Open,
}

/// Where a chunk lies: so many bytes of a blob.
struct Place {
    blob: Digest,
    offset: u64,
    size: u64,
}

/// The packs that a manifest lists, each once, with their sizes, in its order.
pub(crate) fn packs_of(manifest: &Manifest<'_>) -> Result<Vec<(Digest, u64)>> {
    let mut seen = std::collections::HashSet::new();
    let mut packs = Vec::new();
    for layer in manifest.layers() {
        let layer = layer?;
        if layer.media_type == MEDIA_TYPE_PACK && seen.insert(layer.digest) {
            packs.push((layer.digest, layer.size));
        }
        if packs.len() > limits::MAX_PACKS as usize {
            let text = format!("the image has more than {} packs", limits::MAX_PACKS);
            return Err(Error::damaged(text).into());
        }
    }
    Ok(packs)
}

/// The blob that keeps these ends, those of all packs of an image in the order of its manifest.
pub fn keep_ends<'a>(ends: impl Iterator<Item = &'a End>) -> Vec<u8> {
    let (mut all, mut count) = (Vec::new(), 0u32);
    for end in ends {
        all.extend(&end.bytes);
        count += 1;
    }
    all.extend(count.to_le_bytes());
    all.extend(MAGIC);
    all
}

/// The ends of the packs that the manifest `text` lists, as the blob `indexes` has them.
pub(crate) fn ends_of(
    layout: &Layout,
    indexes: &Digest,
    text: &[u8],
) -> Result<Vec<(Digest, End)>> {
    let packs = packs_of(&Manifest::parse(text)?)?;
    let all = layout.read_blob(indexes, MAX_ENDS)?;
    let count = u32::try_from(packs.len())?.to_le_bytes();
    let rest = all
        .strip_suffix(&MAGIC)
        .and_then(|rest| rest.strip_suffix(&count));
    let mut rest = rest.with_context(|| format!("sha256:{indexes} has other ends"))?;
    let mut ends = Vec::new();
    let context = |digest| format!("the end of the pack sha256:{digest} in sha256:{indexes}");
    // The last one first, as an end says at its end how long it is.
    for (digest, size) in packs.into_iter().rev() {
        let end = End::len(rest, size).and_then(|len| {
            let start = rest.len().checked_sub(usize::try_from(len)?);
            let (front, end) = rest.split_at(start.context("it is cut")?);
            rest = front;
            End::parse(end.to_vec(), size)
        });
        ends.push((digest, end.with_context(|| context(digest))?));
    }
    ensure!(rest.is_empty(), "sha256:{indexes} has more than the ends");
    ends.reverse();
    Ok(ends)
}

/// The same of packs that lie in the layout themselves.
pub(crate) fn ends_there(layout: &Layout, text: &[u8]) -> Result<Vec<(Digest, End)>> {
    let packs = packs_of(&Manifest::parse(text)?)?.into_iter();
    let ends = packs.map(|(digest, _)| {
        let end = End::of_file(&layout.open_blob(&digest)?);
        Ok((
            digest,
            end.with_context(|| format!("the end of the pack sha256:{digest}"))?,
        ))
    });
    ends.collect()
}

/// The loose chunks that the manifest `text` lists, with their bytes.
pub(crate) fn loose_of(text: &[u8]) -> Result<Vec<(Digest, u64)>> {
    let mut loose = Vec::new();
    for layer in Manifest::parse(text)?.layers() {
        let layer = layer?;
        let is_loose = is_chunk(&layer.media_type.to_string());
        loose.extend(is_loose.then_some((layer.digest, layer.size)));
    }
    Ok(loose)
}

/// All packs that lie in a layout as a whole, whether something leads to them or not.
pub fn packs_in(layout: &Layout) -> crate::Result<Vec<Digest>> {
    let blobs = layout.blobs()?.into_iter();
    let smallest = PackTrailer::BYTES as u64;
    let large = blobs.filter(|(_, size)| *size >= smallest);
    let is_pack = |digest: &Digest| {
        let file = layout.open_blob(digest);
        file.is_ok_and(|file| pack::is_pack(&file).unwrap_or(false))
    };
    let large = layout.only_whole(large.map(|(digest, _)| digest))?;
    Ok(large.into_iter().filter(is_pack).collect())
}

impl Composer {
    /// For the packs that the manifest `text` lists, which `record` is of. Chunks are taken from all packs
    /// that lie in the layout.
    pub(crate) fn new(layout: &Layout, record: &Record, text: &[u8]) -> Result<Self> {
        let ends = ends_of(layout, &record.indexes, text)?;
        // What is wrong with packs shows when they are needed.
        let (found, _) = Places::open(layout, packs_in(layout)?);
        let packed = ends.iter().flat_map(|(_, end)| &end.entries);
        let mut chunks: Vec<Digest> = packed.map(|entry| entry.digest).collect();
        chunks.extend(loose_of(text)?.into_iter().map(|(chunk, _)| chunk));
        let mut places = HashMap::new();
        for chunk in chunks {
            let packed = found.of(&chunk).iter().map(|place| Place {
                blob: found.packs()[place.pack as usize].digest,
                offset: place.offset.into(),
                size: place.size.into(),
            });
            let mut all: Vec<Place> = packed.collect();
            if all.is_empty() {
                let size = layout.blob_size(&chunk)?;
                let size = size.filter(|size| *size <= limits::MAX_CHUNK_BYTES);
                all.extend(size.map(|size| Place {
                    blob: chunk,
                    offset: 0,
                    size,
                }));
            }
            places.insert(chunk, all);
        }
        Ok(Composer {
            layout: layout.clone(),
            ends: ends.into_iter().collect(),
            places,
            open: Open::default(),
        })
    }

    /// Whether it knows of a blob: a pack, or a loose chunk.
    pub fn knows(&self, blob: &Digest) -> bool {
        self.ends.contains_key(blob) || self.places.contains_key(blob)
    }

    /// The bytes of a blob that it knows of.
    pub fn size(&self, blob: &Digest) -> Option<u64> {
        match self.ends.get(blob) {
            Some(end) => Some(end.start + end.size),
            None => Some(self.places.get(blob)?.first()?.size),
        }
    }

    /// How many chunks of a pack, and bytes of them, are nowhere in the layout.
    pub fn missing(&self, pack: &Digest) -> (u64, u64) {
        let entries = self.ends.get(pack).into_iter().flat_map(|end| &end.entries);
        let is_missing = |digest| self.places.get(digest).is_none_or(Vec::is_empty);
        let missing = entries.filter(|entry| is_missing(&entry.digest));
        missing.fold((0, 0), |(count, bytes), entry| {
            (count + 1, bytes + u64::from(entry.size))
        })
    }

    /// A reader of these bytes of a blob, each chunk checked. It fails where one is nowhere sound.
    pub fn read(self: &Arc<Self>, blob: &Digest, range: Range<u64>) -> crate::Result<Bytes> {
        let Some(end) = self.ends.get(blob) else {
            let mut chunk = Cursor::new(self.chunk(blob)?);
            chunk.set_position(range.start);
            let len = range.end.saturating_sub(range.start);
            return Ok(Box::new(chunk.take(len)));
        };
        if !end.is_dense() {
            let text = format!("the pack sha256:{blob} has more in it than chunks");
            return Err(Error::not_found(text).of(blob));
        }
        let is_before = |entry: &PackEntry| end_of(entry) <= range.start;
        Ok(Box::new(Composed {
            composer: Arc::clone(self),
            pack: *blob,
            next: end.entries.partition_point(is_before),
            at: range.start,
            to: range.end.min(end.start + end.size),
            part: Vec::new(),
            used: 0,
        }))
    }

    /// A chunk, from wherever it is sound.
    fn chunk(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut fault = None;
        for place in self.places.get(digest).into_iter().flatten() {
            match self.chunk_at(digest, place) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        let missing = || Error::not_found(format!("the layout has no chunk sha256:{digest}"));
        Err(fault.unwrap_or_else(|| missing().of(digest).into()))
    }

    fn chunk_at(&self, digest: &Digest, place: &Place) -> Result<Vec<u8>> {
        let file = self.open.get(&self.layout, &place.blob)?;
        let mut bytes = vec![0; usize::try_from(place.size)?];
        file.read_exact_at(&mut bytes, place.offset)?;
        ensure!(
            sha256(&[&bytes]) == *digest,
            "the chunk sha256:{digest} in sha256:{} is damaged",
            place.blob
        );
        Ok(bytes)
    }
}

/// A reader that lives as long as it needs.
pub type Bytes = Box<dyn Read + Send>;

/// Whether a layer is a loose chunk.
pub fn is_chunk(media_type: &str) -> bool {
    media_type.starts_with(MEDIA_TYPE_CHUNK)
}

/// Bytes of a pack that is put together as it is read.
struct Composed {
    composer: Arc<Composer>,
    pack: Digest,
    /// The next entry of the index.
    next: usize,
    /// Where in the pack the next byte is, and where to stop.
    at: u64,
    to: u64,
    /// What is at hand, and how much of it is used.
    part: Vec<u8>,
    used: usize,
}

impl Composed {
    fn fill(&mut self) -> Result<()> {
        let end = self.composer.ends.get(&self.pack).context("no such pack")?;
        let (part, start) = match end.entries.get(self.next) {
            Some(entry) => {
                self.next += 1;
                (self.composer.chunk(&entry.digest)?, entry.offset.into())
            }
            None => (end.bytes.clone(), end.start),
        };
        self.part = part;
        self.used = usize::try_from(self.at.saturating_sub(start))?;
        Ok(())
    }
}

impl Read for Composed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.to || buffer.is_empty() {
            return Ok(0);
        }
        if self.used >= self.part.len() {
            self.fill()
                .map_err(|error| io::Error::other(format!("{error:#}")))?;
        }
        let rest = &self.part[self.used.min(self.part.len())..];
        let left = usize::try_from(self.to - self.at).unwrap_or(usize::MAX);
        let count = rest.len().min(buffer.len()).min(left);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        self.at += count as u64;
        Ok(count)
    }
}
