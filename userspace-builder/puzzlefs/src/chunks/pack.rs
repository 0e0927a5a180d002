// SPDX-License-Identifier: Apache-2.0
//! Packs on disk (FORMAT.md, section 1.1): reading one's index, and writing one.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context};
use puzzlefs_format::{limits, Digest, PackEntry, PackIndex, PackTrailer};

use crate::base::digest::sha256;
use crate::base::error::{damage, is_trouble, Result, Where};
use crate::layout::Layout;

/// Bytes of a pack, as a rule. Every pack is a layer: it costs a request when it is
/// pulled, and an open file while it is mounted; 16 MiB make eight of a small Debian, and let an
/// image have 64 GiB. Larger ones would be shared less: a registry can share packs only as a
/// whole, and one that is in use keeps all that is in it.
pub const DEFAULT_TARGET: u64 = 16 << 20;

/// Opens the pack `digest` and reads its index, whose entries need not be true.
pub fn open(layout: &Layout, digest: &Digest) -> Result<(File, Vec<PackEntry>)> {
    let file = layout.open_blob(digest)?;
    let entries = index(&file).map_err(|error| {
        let what = match is_trouble(&error) {
            true => "could not be read",
            false => "is damaged; delete it and copy or build its images again",
        };
        error.context(format!("the pack sha256:{digest} {what}"))
    });
    Ok((file, damage(entries).of(digest)?))
}

fn index(file: &File) -> anyhow::Result<Vec<PackEntry>> {
    let size = file.metadata()?.len();
    let mut trailer = [0; PackTrailer::BYTES];
    let start = size.checked_sub(trailer.len() as u64);
    file.read_exact_at(&mut trailer, start.context("it has no trailer")?)?;
    let trailer = PackTrailer::parse(trailer, size)?;
    let mut bytes = vec![0; trailer.index_bytes()];
    file.read_exact_at(&mut bytes, trailer.index_offset())?;
    let index = PackIndex::new(&bytes, &trailer)?;
    let entries: Vec<PackEntry> = index.iter().collect::<Result<_, _>>()?;
    // Else a small pack could have readers hash the same bytes a thousand times.
    let sum: u64 = entries.iter().map(|entry| u64::from(entry.size)).sum();
    ensure!(
        sum <= trailer.index_offset(),
        "its chunks overlap: its index lists {sum} bytes, and there are {}",
        trailer.index_offset()
    );
    Ok(entries)
}

/// The end of a pack: its index and its trailer, checked but for the chunks themselves.
#[derive(Clone, Debug)]
pub struct End {
    /// Its bytes; none if nobody needs them any more ([`Self::without_bytes`]).
    pub bytes: Vec<u8>,
    /// How many they are.
    pub size: u64,
    /// Their SHA-256.
    pub digest: Digest,
    /// What the index lists, in order of the offsets.
    pub entries: Vec<PackEntry>,
    /// Where it begins in the pack.
    pub start: u64,
}

impl End {
    /// The bytes that the end of a pack of `size` bytes has, by the last bytes of it, of which there
    /// are enough for a trailer.
    pub(crate) fn len(last: &[u8], size: u64) -> anyhow::Result<u64> {
        let trailer = last.last_chunk().context("it has no trailer")?;
        let trailer = PackTrailer::parse(*trailer, size)?;
        Ok(size - trailer.index_offset())
    }

    /// Reads the end of a pack.
    pub(crate) fn of_file(pack: &File) -> anyhow::Result<Self> {
        let size = pack.metadata()?.len();
        let read = |len: u64| -> anyhow::Result<Vec<u8>> {
            let mut bytes = vec![0; usize::try_from(len)?];
            let start = size.checked_sub(len).context("it has no trailer")?;
            pack.read_exact_at(&mut bytes, start)?;
            Ok(bytes)
        };
        let len = Self::len(&read(PackTrailer::BYTES as u64)?, size)?;
        Self::parse(read(len)?, size)
    }

    /// Parses the end of a pack of `size` bytes. It must be all that FORMAT.md asks for.
    pub(crate) fn parse(bytes: Vec<u8>, size: u64) -> anyhow::Result<Self> {
        let trailer = bytes.last_chunk().context("it has no trailer")?;
        let trailer = PackTrailer::parse(*trailer, size)?;
        let index = &bytes[..bytes.len() - PackTrailer::BYTES];
        let index = PackIndex::new(index, &trailer)?;
        let mut entries: Vec<PackEntry> = index.iter().collect::<Result<_, _>>()?;
        ensure!(
            entries.is_sorted_by(|a, b| a.digest < b.digest),
            "its index is not in ascending order of the digests"
        );
        entries.sort_unstable_by_key(|entry| entry.offset);
        let is_apart = |a: &PackEntry, b: &PackEntry| end_of(a) <= b.offset.into();
        ensure!(entries.is_sorted_by(is_apart), "its chunks overlap");
        Ok(End {
            size: bytes.len() as u64,
            digest: sha256(&[&bytes]),
            bytes,
            entries,
            start: trailer.index_offset(),
        })
    }

    /// The same for who has to know the chunks only, and keeps many.
    pub fn without_bytes(mut self) -> Self {
        self.bytes = Vec::new();
        self.entries.shrink_to_fit();
        self
    }

    /// Whether there is nothing between the chunks: then chunks and end are all of the pack.
    pub fn is_dense(&self) -> bool {
        let sum: u64 = self.entries.iter().map(|entry| u64::from(entry.size)).sum();
        sum == self.start
    }
}

/// Where a chunk ends in its pack.
pub fn end_of(entry: &PackEntry) -> u64 {
    u64::from(entry.offset) + u64::from(entry.size)
}

/// Whether a file ends as packs do.
pub(crate) fn is_pack(file: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let mut trailer = [0; PackTrailer::BYTES];
    let Some(start) = size.checked_sub(trailer.len() as u64) else {
        return Ok(false);
    };
    file.read_exact_at(&mut trailer, start)?;
    Ok(PackTrailer::parse(trailer, size).is_ok())
}

/// A pack that is being written to `W`.
pub(crate) struct PackWriter<W> {
    out: W,
    at: u64,
    target: u64,
    entries: Vec<PackEntry>,
}

impl<W: Write> PackWriter<W> {
    /// An empty pack that is to have some `target` bytes.
    pub fn new(out: W, target: u64) -> Self {
        PackWriter {
            out,
            at: 0,
            target,
            entries: Vec::new(),
        }
    }

    /// Chunks so far.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Appends a chunk that the pack does not have yet; says where it is.
    pub fn push(&mut self, digest: Digest, chunk: &[u8]) -> anyhow::Result<PackEntry> {
        let entry = PackEntry {
            digest,
            offset: u32::try_from(self.at)?,
            size: u32::try_from(chunk.len())?,
        };
        self.out.write_all(chunk).context("writing a pack")?;
        self.at += chunk.len() as u64;
        self.entries.push(entry);
        Ok(entry)
    }

    /// Whether the pack is to end here, or can take another chunk.
    ///
    /// Where a pack ends depends on its last chunk, just as a chunk's end depends on its last bytes:
    /// so images that were built apart agree again on packs some way after a difference.
    pub fn is_full(&self) -> bool {
        let Some(last) = self.entries.last() else {
            return false;
        };
        let min = self.target / 2;
        // Each byte behind the minimum is as likely to be the last one.
        let [b0, b1, b2, b3, ..] = *last.digest.as_bytes();
        let chance = u64::from(last.size).saturating_mul(1 << 32) / min.max(1);
        let cut = u64::from(u32::from_le_bytes([b0, b1, b2, b3])) < chance;
        let index = (self.entries.len() as u64 + 1) * PackEntry::BYTES as u64;
        let room = limits::MAX_PACK_BYTES - PackTrailer::BYTES as u64 - index;
        self.at >= min && cut
            || self.at >= self.target.saturating_mul(2)
            || self.at > room.saturating_sub(limits::MAX_CHUNK_BYTES)
            || self.entries.len() >= limits::MAX_PACK_CHUNKS as usize
    }

    /// Writes the index, and returns what was written to.
    pub fn finish(mut self) -> anyhow::Result<W> {
        self.entries.sort_unstable_by_key(|entry| entry.digest);
        ensure!(
            self.entries.is_sorted_by(|a, b| a.digest < b.digest),
            "a chunk is to be in a pack twice"
        );
        let write = |out: &mut W| -> io::Result<()> {
            for entry in &self.entries {
                out.write_all(&entry.to_bytes())?;
            }
            out.write_all(&PackTrailer::to_bytes(self.entries.len() as u32))
        };
        write(&mut self.out).context("writing a pack")?;
        Ok(self.out)
    }
}
