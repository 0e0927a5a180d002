// SPDX-License-Identifier: GPL-2.0

//! Decompression of chunks, as a whole or little by little.
//!
//! What a page holds must not depend on how it is read, so both ways give the same bytes, or
//! fail: a frame is given to zstd by one call if [`ZstdFrame::is_short`], and else as a stream
//! that keeps all of the content in one piece. Of a frame that is damaged the bytes in front of the
//! damage can be had little by little, and that is the rule for all: who reads more of it at
//! once fails, and reads page by page then.

use core::ops::Range;
use kernel::prelude::*;
use puzzlefs_format::{Encoding, Frame, SeekTable, ZstdFrame};
use vfs::{lz4, zstd};

/// The window that streams have at least, in bytes: most chunks fit. They need that much memory
/// and some 500 KiB.
const STREAM_WINDOW: usize = 512 << 10;

/// What a stream is given at most between two looks for a fatal signal, in bytes: some
/// milliseconds of blocks of any kind, since each takes bytes of the frame.
const STEP_INPUT: usize = 64 << 10;

/// What it gives at most meanwhile, in bytes.
const STEP_OUTPUT: usize = 256 << 10;

/// The contexts of zstd, each made when it is first needed: raw images do without, and
/// few reads end inside a chunk.
#[derive(Default)]
pub(crate) struct Decoder {
    context: Option<zstd::Context>,
    stream: Option<zstd::Stream>,
    /// Up to where in the chunk the stream has taken a frame, if it can go on.
    consumed: Option<usize>,
}

impl Decoder {
    /// How much memory the contexts take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let context = self.context.as_ref().map_or(0, zstd::Context::bytes);
        let stream = self.stream.as_ref().map_or(0, zstd::Stream::bytes);
        context.saturating_add(stream)
    }

    /// Another chunk begins, or another buffer for the same one.
    pub(crate) fn restart(&mut self) {
        self.consumed = None;
    }

    /// Allocates what [`Decoder::whole`] needs, and [`Decoder::advance`] unless `is_whole`.
    ///
    /// # Errors
    ///
    /// `EUCLEAN`, `ENOMEM`.
    pub(crate) fn prepare(
        &mut self,
        encoding: &Encoding<'_>,
        stored: &[u8],
        is_whole: bool,
    ) -> Result {
        let Encoding::Zstd(table) = encoding else {
            return Ok(());
        };
        self.context()?;
        for frame in table.frames() {
            let frame = parse(stored, &frame)?;
            if !is_whole || !frame.is_short() {
                self.stream(&frame)?;
            }
        }
        Ok(())
    }

    /// Decompresses all of `stored` into `buffer`, which is of the size that `encoding` says.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not decompress to that, `EINTR` when the task was killed, `ENOMEM`.
    pub(crate) fn whole(
        &mut self,
        encoding: &Encoding<'_>,
        stored: &[u8],
        buffer: &mut [u8],
    ) -> Result {
        let end = buffer.len();
        // The place where the stream stands is one in another buffer, before and after this.
        self.restart();
        let result = self.advance(encoding, stored, buffer, 0, end);
        self.restart();
        result.map(|_| ())
    }

    /// Decompresses `stored` into `buffer`, which is of the size that `encoding` says, and whose
    /// first `done` bytes were filled so before: up to `end`, or further where less cannot be had.
    /// Returns up to where.
    ///
    /// # Errors
    ///
    /// As of [`Decoder::whole`].
    pub(crate) fn advance(
        &mut self,
        encoding: &Encoding<'_>,
        stored: &[u8],
        buffer: &mut [u8],
        done: usize,
        end: usize,
    ) -> Result<usize> {
        match encoding {
            Encoding::Zstd(table) => self.frames(table, stored, buffer, done, end),
            // A part may come out differently than in the whole: see `lz4::decompress`.
            Encoding::Lz4(frame) => {
                lz4::decompress(buffer, frame.block())?;
                Ok(buffer.len())
            }
        }
    }

    fn frames(
        &mut self,
        table: &SeekTable<'_>,
        stored: &[u8],
        buffer: &mut [u8],
        done: usize,
        end: usize,
    ) -> Result<usize> {
        let mut done = done;
        for entry in table.frames() {
            let content = content(&entry)?;
            if content.start >= end {
                break;
            }
            // Of an empty one nothing can be wrong any more.
            if content.end <= done {
                continue;
            }
            if content.start > 0 && vfs::killed() {
                return Err(EINTR);
            }
            let frame = parse(stored, &entry)?;
            // The checksum is at the end.
            let stop = if frame.has_checksum() {
                content.end
            } else {
                content.end.min(end)
            };
            let memory = buffer.get_mut(content.clone()).ok_or(EUCLEAN)?;
            let begun = done.saturating_sub(content.start);
            let wanted = stop.saturating_sub(content.start);
            done = content.start;
            done = done.saturating_add(self.frame(&frame, memory, begun, wanted)?);
        }
        if done < end {
            return Err(EUCLEAN);
        }
        Ok(done)
    }

    /// Decompresses a frame into `memory`, which is of its size and of which the first `begun`
    /// bytes were filled so before, up to `wanted` or further.
    fn frame(
        &mut self,
        frame: &ZstdFrame<'_>,
        memory: &mut [u8],
        begun: usize,
        wanted: usize,
    ) -> Result<usize> {
        let is_short = frame.is_short();
        if is_short && begun == 0 && wanted == memory.len() {
            self.context()?.decompress(memory, frame.stored())?;
            return Ok(memory.len());
        }
        let position = self.consumed.take().filter(|_| begun > 0);
        let result = match self.go_on(frame, memory, begun, wanted, position) {
            Ok(consumed) => {
                self.consumed = Some(consumed);
                return Ok(wanted);
            }
            Err(error) => Err(error),
        };
        // For want of memory, or as a block is larger than blocks may be: one call does not
        // mind, and so it is for all readers.
        if is_short && matches!(result, Err(ENOMEM | EIO)) {
            let context = self.context()?;
            if context.decompress(memory, frame.stored()).is_ok() {
                return Ok(memory.len());
            }
        }
        result
    }

    /// The same by the stream, which has taken `position` bytes of the blocks, if it can go on.
    /// Returns how many it has taken then.
    fn go_on(
        &mut self,
        frame: &ZstdFrame<'_>,
        memory: &mut [u8],
        begun: usize,
        wanted: usize,
        position: Option<usize>,
    ) -> Result<usize> {
        let stream = self.stream(frame)?;
        let blocks = frame.blocks();
        let mut done = begun;
        if position.is_none() {
            stream.begin(&frame.stream_header())?;
            done = 0;
        }
        let mut source = blocks.get(position.unwrap_or(0)..).ok_or(EUCLEAN)?;
        while done < wanted {
            let to = wanted.min(done.saturating_add(STEP_OUTPUT));
            let output = memory.get_mut(done..to).ok_or(EUCLEAN)?;
            done = done.saturating_add(step(stream, output, &mut source)?);
            if done < wanted && vfs::killed() {
                return Err(EINTR);
            }
        }
        // Nothing but the frame's end may follow the content.
        while wanted == memory.len() && !stream.is_at_end() {
            step(stream, &mut [], &mut source)?;
            if !stream.is_at_end() && vfs::killed() {
                return Err(EINTR);
            }
        }
        Ok(blocks.len().saturating_sub(source.len()))
    }

    fn stream(&mut self, frame: &ZstdFrame<'_>) -> Result<&mut zstd::Stream> {
        let window = usize::try_from(frame.stream_window()).map_err(|_| EUCLEAN)?;
        let stream = self.stream.take();
        let stream = stream.filter(|stream| stream.max_window() >= window);
        Ok(match stream {
            Some(stream) => self.stream.insert(stream),
            None => {
                self.consumed = None;
                let stream = zstd::Stream::new(window.max(STREAM_WINDOW))?;
                self.stream.insert(stream)
            }
        })
    }

    fn context(&mut self) -> Result<&mut zstd::Context> {
        Ok(match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::Context::new()?),
        })
    }
}

/// Gives `stream` as much of `source` as it may have at once.
fn step(stream: &mut zstd::Stream, output: &mut [u8], source: &mut &[u8]) -> Result<usize> {
    let (mut input, _) = source.split_at(source.len().min(STEP_INPUT));
    let before = input.len();
    let written = stream.read(output, &mut input)?;
    *source = source
        .get(before.saturating_sub(input.len())..)
        .ok_or(EUCLEAN)?;
    Ok(written)
}

fn parse<'a>(stored: &'a [u8], frame: &Frame) -> Result<ZstdFrame<'a>> {
    ZstdFrame::parse(stored, frame).map_err(|_| EUCLEAN)
}

/// Where the content of a frame lies in that of the chunk.
fn content(frame: &Frame) -> Result<Range<usize>> {
    let end = frame.offset.checked_add(frame.size).ok_or(EUCLEAN)?;
    let [start, end] = [frame.offset, end].map(usize::try_from);
    Ok(start.map_err(|_| EUCLEAN)?..end.map_err(|_| EUCLEAN)?)
}
