// SPDX-License-Identifier: Apache-2.0
//! Reading chunks: verified first, then decompressed.

use anyhow::{anyhow, ensure, Context, Result};
use puzzlefs_format::{ChunkRef, Digest, Encoding, Lz4Frame, SeekTable, ZstdFrame};
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

use crate::base::error::{damage, Error, Where};
use crate::chunks::places::Places;

/// A chunk's name and how it is stored.
pub type Key = (Digest, bool);

/// Reads chunks of an image; keeps the last one, as small files share theirs.
pub struct ChunkReader<'a> {
    places: &'a Places<'a>,
    decoder: Decoder,
    last: Option<(Key, Vec<u8>)>,
    decoded: u64,
}

impl<'a> ChunkReader<'a> {
    /// A reader of the chunks of an image of `version` that lie at `places`.
    pub fn new(places: &'a Places<'a>, version: u64) -> Result<Self> {
        Ok(ChunkReader {
            places,
            decoder: Decoder::new(version)?,
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
        Ok(damage(self.places.read(digest)).of(digest)?)
    }

    /// The content of a chunk.
    pub fn whole(&mut self, at: &ChunkRef) -> Result<&[u8]> {
        let key = (at.digest, at.compressed);
        let chunk = match self.last.take() {
            Some((last, chunk)) if last == key => chunk,
            _ => {
                let stored = self.stored(&at.digest)?;
                let chunk = self.decoder.decode(&at.digest, at.compressed, stored)?;
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
        let bytes = chunk.get(start..end);
        Ok(bytes.ok_or_else(|| {
            let digest = &at.digest;
            let text = format!(
                "the chunk sha256:{digest} ends before byte {end} of it, which a file uses"
            );
            Error::damaged(text).of(digest)
        })?)
    }

    /// The content of a chunk that is stored as `stored`.
    pub fn decode(
        &mut self,
        digest: &Digest,
        compressed: bool,
        stored: Vec<u8>,
    ) -> Result<Vec<u8>> {
        self.decoder.decode(digest, compressed, stored)
    }
}

/// Decodes chunks that were verified.
pub struct Decoder {
    /// The image's `manifestVersion`, which says what chunks may be.
    version: u64,
    zstd: DCtx<'static>,
}

impl Decoder {
    /// For chunks of an image of `version`.
    pub fn new(version: u64) -> Result<Self> {
        let zstd = DCtx::try_create().context("zstd")?;
        Ok(Decoder { version, zstd })
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
        Ok(damage(content.with_context(context)).of(digest)?)
    }

    /// The content of all zstd frames of `stored`.
    fn zstd_frames(&mut self, stored: &[u8], table: &SeekTable<'_>) -> Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(table.decompressed_size())?];
        let mut rest = &mut content[..];
        for entry in table.frames() {
            let size = usize::try_from(entry.size)?;
            let (memory, next) = std::mem::take(&mut rest)
                .split_at_mut_checked(size)
                .context("a frame is larger than its chunk")?;
            rest = next;
            zstd_frame(&mut self.zstd, &ZstdFrame::parse(stored, &entry)?, memory)?;
        }
        Ok(content)
    }
}

/// Decompresses `frame` into `memory`, which is of the size of its content: as the kernel does,
/// so that both take the same frames, and find the same in them.
fn zstd_frame(zstd: &mut DCtx<'_>, frame: &ZstdFrame<'_>, memory: &mut [u8]) -> Result<()> {
    let error = |code| anyhow!("zstd: {}", zstd::zstd_safe::get_error_name(code));
    zstd.reset(ResetDirective::SessionOnly).map_err(error)?;
    let size = memory.len();
    if frame.is_short() {
        let written = zstd.decompress(memory, frame.stored()).map_err(error)?;
        ensure!(written == size, "a frame has another size than it says");
        return Ok(());
    }
    let mut output = OutBuffer::around(memory);
    let header = frame.stream_header();
    let mut is_at_end = false;
    for part in [&header[..], frame.blocks()] {
        let mut input = InBuffer::around(part);
        while !is_at_end && input.pos() < part.len() {
            let before = (input.pos(), output.pos());
            let hint = zstd.decompress_stream(&mut output, &mut input);
            is_at_end = hint.map_err(error)? == 0;
            ensure!(
                before != (input.pos(), output.pos()),
                "a frame is larger than it says"
            );
        }
    }
    ensure!(
        is_at_end && output.pos() == size,
        "a frame has another size than it says"
    );
    Ok(())
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
