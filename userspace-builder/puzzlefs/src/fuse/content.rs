// SPDX-License-Identifier: Apache-2.0
//! What is in the files of an image: where their bytes are in chunks, and reading them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use puzzlefs_format::{ChunkRef, Encoding, Error as FormatError, Extents, Located};
use rustix::io::Errno;

use super::cache::{Chunk, Decoded};
use super::failure::Failure;
use super::faults::Faults;
use super::filesystem::{Answer, Bytes, SeekTo};
use super::source::ChunkSource;
use crate::image::chunk::Decoder;

/// Bytes of decoded chunks that are kept. The kernel keeps what was read of files; here is what
/// a small file or a part of a chunk has left over for the next.
const CACHE_BYTES: usize = 48 << 20;
/// Files of more extents have their places kept, some at a time.
const SHORT: u32 = 64;
/// Extents from one place that is kept to the next.
const STEP: u32 = 128;
/// Bytes of places that are kept.
const MAP_BYTES: usize = 8 << 20;
/// Bytes that may be decoded for a read, and further ones for each byte of it. Chunks of files that
/// somebody reads in order are decoded once; an image that has a large chunk for each byte is made to
/// do harm.
const WORK: u64 = 256 << 20;
const WORK_PER_BYTE: u64 = 64;

/// The contents of an image's files.
pub(super) struct Contents<'a> {
    source: Box<dyn ChunkSource + 'a>,
    version: u64,
    cache: Decoded,
    decoders: Mutex<Vec<Decoder>>,
    maps: Mutex<Maps>,
}

/// Where long files' extents are.
#[derive(Default)]
struct Maps {
    of: HashMap<u64, Arc<Map>>,
    bytes: usize,
}

/// Where the extents of a file are: where each [`STEP`]th of them begins.
struct Map {
    starts: Vec<u64>,
    size: u64,
}

impl Map {
    /// That of `extents`, all of which are looked at.
    fn new(extents: &Extents<'_>) -> Result<Self, FormatError> {
        let (mut starts, mut at, mut count) = (Vec::new(), 0u64, 0u32);
        extents.for_each(0..extents.len(), |extent| {
            if count % STEP == 0 {
                starts.push(at);
            }
            count += 1;
            at = extent.end(at)?;
            Ok(())
        })?;
        Ok(Map {
            starts,
            size: extents.proved(at)?,
        })
    }

    /// Which extent to begin with to find `offset`, and where that one begins.
    fn begin(&self, offset: u64) -> (u32, u64) {
        let step = self.starts.partition_point(|start| *start <= offset);
        let step = step.saturating_sub(1);
        let start = self.starts.get(step).copied().unwrap_or_default();
        (
            u32::try_from(step).unwrap_or(u32::MAX).saturating_mul(STEP),
            start,
        )
    }
}

impl<'a> Contents<'a> {
    /// Those of an image of `version`.
    pub(super) fn new(source: Box<dyn ChunkSource + 'a>, version: u64) -> Self {
        Contents {
            source,
            version,
            cache: Decoded::new(CACHE_BYTES),
            decoders: Mutex::default(),
            maps: Mutex::default(),
        }
    }

    /// Where the extents of inode `ino` are.
    fn map(&self, ino: u64, extents: &Extents<'_>) -> Result<Arc<Map>, FormatError> {
        let maps = || self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if extents.len() > SHORT {
            if let Some(map) = maps().of.get(&ino) {
                return Ok(map.clone());
            }
        }
        let map = Arc::new(Map::new(extents)?);
        if extents.len() > SHORT {
            let mut maps = maps();
            // Those of the map and of the table.
            let bytes = map.starts.len() * 8 + 128;
            if maps.bytes + bytes > MAP_BYTES {
                *maps = Maps::default();
            }
            maps.bytes += bytes;
            maps.of.insert(ino, map.clone());
        }
        Ok(map)
    }

    /// The `len` bytes from `offset` on of inode `ino`, which has `extents`.
    pub(super) fn read(
        &self,
        faults: &Faults,
        ino: u64,
        extents: &Extents<'_>,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, Failure> {
        let map = self.map(ino, extents)?;
        let left = map.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let mut work = WORK.saturating_add((len as u64).saturating_mul(WORK_PER_BYTE));
        let mut bytes = Vec::new();
        let (mut index, mut start) = map.begin(offset);
        while bytes.len() < len {
            // The sum of all extents was found to be the size.
            let extent = extents.get(index)?;
            let end = extent.end(start)?;
            let at = offset.saturating_add(bytes.len() as u64);
            if end > at {
                let located = Located {
                    index: index as usize,
                    within: at.saturating_sub(start),
                    left: end.saturating_sub(at),
                };
                let wanted = len - bytes.len();
                let count = usize::try_from(located.left).map_or(wanted, |left| left.min(wanted));
                match &extent.chunk {
                    None => bytes.resize(bytes.len() + count, 0),
                    Some(chunk) => {
                        let whole = self.chunk(faults, ino, chunk, &mut work)?;
                        let range = part(chunk, located.within, count, &whole);
                        let Some(range) = range else {
                            faults.of_chunk(
                                ino,
                                &chunk.digest,
                                "it ends before what a file uses of it",
                            );
                            return Err(Errno::IO.into());
                        };
                        if count == len {
                            return Ok(Bytes::Shared(whole, range));
                        }
                        bytes.reserve_exact(len - bytes.len());
                        bytes.extend_from_slice(&whole[range]);
                    }
                }
            }
            start = end;
            index = index.saturating_add(1);
        }
        Ok(Bytes::Own(bytes))
    }

    /// The content of a chunk that inode `ino` uses, verified and decoded.
    fn chunk(&self, faults: &Faults, ino: u64, chunk: &ChunkRef, work: &mut u64) -> Answer<Chunk> {
        let mut decoded = 0;
        let found = self.cache.get((chunk.digest, chunk.compressed), || {
            let decode = self.decode(chunk, *work);
            let content = decode.map_err(|error| {
                faults.of_chunk(ino, &chunk.digest, format_args!("{error:#}"));
                Errno::IO
            })?;
            decoded = content.len() as u64;
            Ok(content)
        });
        *work = work.saturating_sub(decoded);
        found
    }

    fn decode(&self, chunk: &ChunkRef, work: u64) -> anyhow::Result<Vec<u8>> {
        let stored = self.source.stored(&chunk.digest)?.into_bytes();
        let size = match chunk.compressed {
            false => stored.len() as u64,
            true => match Encoding::parse(&stored, self.version)? {
                Encoding::Zstd(table) => table.decompressed_size(),
                Encoding::Lz4(frame) => frame.decompressed_size(),
            },
        };
        anyhow::ensure!(
            size <= work,
            "the image has far larger chunks than files use of them"
        );
        let decoders = || self.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        let decoder = decoders().pop();
        let mut decoder = match decoder {
            Some(decoder) => decoder,
            None => Decoder::new(self.version)?,
        };
        let content = decoder.decode(&chunk.digest, chunk.compressed, stored);
        decoders().push(decoder);
        content
    }

    /// Where from `offset` on `to` begins.
    pub(super) fn seek(
        &self,
        ino: u64,
        extents: &Extents<'_>,
        offset: u64,
        to: SeekTo,
    ) -> Result<u64, Failure> {
        let map = self.map(ino, extents)?;
        if offset >= map.size {
            return Err(Errno::NXIO.into());
        }
        let (first, mut start) = map.begin(offset);
        let mut found = None;
        extents.for_each(first..extents.len(), |extent| {
            let end = extent.end(start)?;
            let is_it = extent.chunk.is_none() == (to == SeekTo::Hole);
            if end > offset && is_it && found.is_none() {
                found = Some(start.max(offset));
            }
            start = end;
            Ok(())
        })?;
        match (found, to) {
            (Some(found), _) => Ok(found),
            (None, SeekTo::Hole) => Ok(map.size),
            (None, SeekTo::Data) => Err(Errno::NXIO.into()),
        }
    }
}

/// Which `count` bytes of `whole` are those from `within` on of what a file uses of `chunk`, if it has
/// them.
fn part(
    chunk: &ChunkRef,
    within: u64,
    count: usize,
    whole: &[u8],
) -> Option<std::ops::Range<usize>> {
    let begin = usize::try_from(chunk.offset.checked_add(within)?).ok()?;
    let end = begin.checked_add(count)?;
    (end <= whole.len()).then_some(begin..end)
}
