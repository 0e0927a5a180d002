// SPDX-License-Identifier: GPL-2.0

//! Decompression of chunks, as a whole or little by little.

use core::ops::Range;
use kernel::prelude::*;
use puzzlefs_format::{Encoding, Frame, SeekTable};
use vfs::{lz4, zstd};

/// Frames with a larger window than this are decompressed as a whole: a context that can
/// stop on the way needs that much memory, and some 400 KiB.
const MAX_STREAM_BYTES: usize = 512 << 10;

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

    /// Another chunk begins.
    pub(crate) fn restart(&mut self) {
        self.consumed = Some(0);
    }

    /// Allocates what [`Decoder::whole`] needs, and [`Decoder::more`] unless `is_whole`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn prepare(&mut self, encoding: &Encoding<'_>, is_whole: bool) -> Result {
        if matches!(encoding, Encoding::Zstd(_)) {
            self.context()?;
            if !is_whole {
                self.stream()?;
            }
        }
        Ok(())
    }

    /// Decompresses all of `stored` into `buffer`, which is of the size that `encoding` says.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not decompress to that, `ENOMEM`.
    pub(crate) fn whole(
        &mut self,
        encoding: &Encoding<'_>,
        stored: &[u8],
        mut buffer: &mut [u8],
    ) -> Result {
        let table = match encoding {
            Encoding::Zstd(table) => table,
            Encoding::Lz4(frame) => return lz4::decompress(buffer, frame.block()),
        };
        // The table's frames are in order and cover all of it.
        for frame in table.frames() {
            let (place, content) = ranges(&frame)?;
            let source = stored.get(place).ok_or(EUCLEAN)?;
            let (part, rest) = buffer.split_at_mut_checked(content.len()).ok_or(EUCLEAN)?;
            self.context()?.decompress(part, source)?;
            buffer = rest;
        }
        Ok(())
    }

    /// Decompresses more of `stored` into `buffer`, whose first `done` bytes it had filled
    /// before. False if that does not work: there is no memory for it, it is not zstd, or
    /// something is not sound.
    pub(crate) fn more(
        &mut self,
        encoding: &Encoding<'_>,
        stored: &[u8],
        buffer: &mut [u8],
        done: usize,
    ) -> bool {
        let result = match encoding {
            Encoding::Zstd(table) => self.go_on(table, stored, buffer, done),
            // A part may come out differently than in the whole: see `lz4::decompress`.
            // What a file holds must not depend on how it is read.
            Encoding::Lz4(_) => Err(EINVAL),
        };
        if result.is_err() {
            self.consumed = None;
        }
        result.is_ok()
    }

    fn go_on(
        &mut self,
        table: &SeekTable<'_>,
        stored: &[u8],
        buffer: &mut [u8],
        done: usize,
    ) -> Result {
        let mut consumed = self.consumed.ok_or(EINVAL)?;
        let mut done = done;
        let wanted = buffer.len();
        let stream = self.stream()?;
        for frame in table.frames() {
            let (place, content) = ranges(&frame)?;
            let end = content.end.min(wanted);
            if end <= done {
                continue;
            }
            if done == content.start {
                stream.reset();
                consumed = place.start;
            }
            let mut source = stored.get(consumed..place.end).ok_or(EUCLEAN)?;
            stream.read(buffer.get_mut(done..end).ok_or(EUCLEAN)?, &mut source)?;
            consumed = place.end.saturating_sub(source.len());
            done = end;
        }
        if done < wanted {
            return Err(EUCLEAN);
        }
        self.consumed = Some(consumed);
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut zstd::Stream> {
        Ok(match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(zstd::Stream::new(MAX_STREAM_BYTES)?),
        })
    }

    fn context(&mut self) -> Result<&mut zstd::Context> {
        Ok(match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::Context::new()?),
        })
    }
}

/// Where a frame lies in a chunk as stored, and its content in that of the chunk.
fn ranges(frame: &Frame) -> Result<(Range<usize>, Range<usize>)> {
    let range = |start: u64, len: u64| -> Result<Range<usize>> {
        let end = start.checked_add(len).ok_or(EUCLEAN)?;
        let [start, end] = [start, end].map(usize::try_from);
        Ok(start.map_err(|_| EUCLEAN)?..end.map_err(|_| EUCLEAN)?)
    };
    let stored = range(frame.stored_offset, frame.stored_size)?;
    Ok((stored, range(frame.offset, frame.size)?))
}
