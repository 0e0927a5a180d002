// SPDX-License-Identifier: GPL-2.0

//! Decompression of chunks, as a whole or little by little.

use kernel::prelude::*;
use puzzlefs_format::{Encoding, SeekTable};
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
    /// How many bytes of the chunk's only frame the stream has taken, if it can go on.
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
            let start = usize::try_from(frame.stored_offset).map_err(|_| EUCLEAN)?;
            let len = usize::try_from(frame.stored_size).map_err(|_| EUCLEAN)?;
            let source = stored.get(start..).and_then(|rest| rest.get(..len));
            let size = usize::try_from(frame.size).map_err(|_| EUCLEAN)?;
            let (part, rest) = buffer.split_at_mut_checked(size).ok_or(EUCLEAN)?;
            self.context()?.decompress(part, source.ok_or(EUCLEAN)?)?;
            buffer = rest;
        }
        Ok(())
    }

    /// Decompresses more of `stored` into `buffer`, whose first `done` bytes it had filled
    /// before. False if that does not work: there is no memory for it, there are several
    /// frames, it is not zstd, or something is not sound.
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
        let consumed = self.consumed.ok_or(EINVAL)?;
        let frame = table.frames().next().ok_or(EUCLEAN)?;
        let end = usize::try_from(frame.stored_size).map_err(|_| EUCLEAN)?;
        let mut source = stored.get(consumed..end).ok_or(EUCLEAN)?;
        let stream = self.stream()?;
        if consumed == 0 {
            stream.reset();
        }
        stream.read(buffer.get_mut(done..).ok_or(EUCLEAN)?, &mut source)?;
        self.consumed = end.checked_sub(source.len());
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
