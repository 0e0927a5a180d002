// SPDX-License-Identifier: Apache-2.0
//! Reading chunks: verified first, then decompressed.

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{ChunkRef, Digest, Encoding, Lz4Frame, SeekTable};
use zstd::bulk::Decompressor;

use crate::places::Places;

/// A chunk's name and how it is stored.
pub type Key = (Digest, bool);

/// Reads chunks of an image; keeps the last one, as small files share theirs.
pub struct ChunkReader<'a> {
    places: &'a Places<'a>,
    /// The image's `manifestVersion`, which says what chunks may be.
    version: u64,
    zstd: Decompressor<'static>,
    last: Option<(Key, Vec<u8>)>,
    decoded: u64,
}

impl<'a> ChunkReader<'a> {
    /// A reader of the chunks of an image of `version` that lie at `places`.
    pub fn new(places: &'a Places<'a>, version: u64) -> Result<Self> {
        let zstd = Decompressor::new().context("zstd")?;
        Ok(ChunkReader {
            places,
            version,
            zstd,
            last: None,
            decoded: 0,
        })
    }

    /// Bytes of chunks that were decoded to be read.
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    /// The stored bytes of a chunk, checked against its digest.
    pub fn stored(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.places.read(digest)
    }

    /// The content of a chunk.
    pub fn whole(&mut self, at: &ChunkRef) -> Result<&[u8]> {
        let key = (at.digest, at.compressed);
        let chunk = match self.last.take() {
            Some((last, chunk)) if last == key => chunk,
            _ => {
                let stored = self.stored(&at.digest)?;
                let chunk = self.decode(&at.digest, at.compressed, stored)?;
                self.decoded += chunk.len() as u64;
                chunk
            }
        };
        let (_, chunk) = self.last.insert((key, chunk));
        Ok(chunk)
    }

    /// The bytes of a file that `at` and `len` refer to.
    pub fn read(&mut self, at: &ChunkRef, len: u64) -> Result<&[u8]> {
        let chunk = self.whole(at)?;
        let start = usize::try_from(at.offset)?;
        let end = start.saturating_add(usize::try_from(len)?);
        chunk.get(start..end).with_context(|| {
            format!(
                "the chunk sha256:{} ends before byte {end} of it, which a file uses",
                at.digest
            )
        })
    }

    /// The content of a chunk that is stored as `stored`.
    pub fn decode(
        &mut self,
        digest: &Digest,
        compressed: bool,
        stored: Vec<u8>,
    ) -> Result<Vec<u8>> {
        if !compressed {
            return Ok(stored);
        }
        let context = || format!("the chunk sha256:{digest} cannot be decompressed");
        let encoding = Encoding::parse(&stored, self.version).with_context(context)?;
        let content = match &encoding {
            Encoding::Zstd(table) => self.zstd_frames(&stored, table),
            Encoding::Lz4(frame) => lz4_block(frame),
        };
        content.with_context(context)
    }

    /// The content of all zstd frames of `stored`.
    fn zstd_frames(&mut self, stored: &[u8], table: &SeekTable<'_>) -> Result<Vec<u8>> {
        let mut content = Vec::with_capacity(usize::try_from(table.decompressed_size())?);
        for frame in table.frames() {
            let start = usize::try_from(frame.stored_offset)?;
            let end = start.saturating_add(usize::try_from(frame.stored_size)?);
            let packed = stored.get(start..end).context("a frame is missing")?;
            let plain = self.zstd.decompress(packed, usize::try_from(frame.size)?)?;
            ensure!(
                plain.len() as u64 == frame.size,
                "a frame has another size than its seek table says"
            );
            content.extend_from_slice(&plain);
        }
        Ok(content)
    }
}

fn lz4_block(frame: &Lz4Frame<'_>) -> Result<Vec<u8>> {
    let size = frame.decompressed_size();
    let content = lz4::block::decompress(frame.block(), Some(i32::try_from(size)?))?;
    ensure!(
        content.len() as u64 == size,
        "a block has another size than its frame says"
    );
    Ok(content)
}
