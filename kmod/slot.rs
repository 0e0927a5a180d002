// SPDX-License-Identifier: GPL-2.0

//! The means to read a chunk: memory for its bytes as stored, verified before anything
//! else is done with them, and a context to decompress them.

use crate::{error::errno, store::Stored};
use core::ops::Range;
use kernel::prelude::*;
use puzzlefs_format::{Digest, SeekTable};
use vfs::zstd;

/// What a slot holds: the chunk's digest, and whether it was decompressed, since a
/// hostile image may refer to the same bytes in both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) digest: Digest,
    pub(crate) compressed: bool,
}

/// A buffer that grows, and is only zeroed when it does.
#[derive(Default)]
struct Buffer {
    bytes: KVVec<u8>,
    len: usize,
}

impl Buffer {
    /// Makes the buffer `len` bytes long, with any content.
    fn resize(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.bytes.len() < len {
            // Free first: the old content is of no use.
            self.bytes = KVVec::new();
            self.bytes = KVVec::zeroed(len, GFP_KERNEL)?;
        }
        self.len = len;
        self.bytes.get_mut(..len).ok_or(EINVAL)
    }

    fn get_mut(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        self.bytes.get_mut(..self.len)?.get_mut(range)
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The means to read one chunk, and the last one read by them.
#[derive(Default)]
pub(crate) struct Slot {
    /// The chunk whose bytes, verified, are in `stored`.
    holds: Option<Key>,
    stored: Buffer,
    /// Its content, decompressed up to `decompressed`.
    content: Buffer,
    decompressed: usize,
    /// How many bytes of `stored` that took, if more can follow.
    consumed: Option<usize>,
    /// Made when first needed: raw images do without, and few reads end inside a chunk.
    context: Option<zstd::Context>,
    stream: Option<zstd::Stream>,
}

/// Chunks of more content than this are decompressed as a whole, always.
const MAX_STREAM_BYTES: usize = 512 << 10;

impl Slot {
    /// Whether the bytes of the chunk are at hand.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.holds.as_ref() == Some(key)
    }

    /// Reads and verifies `chunk`, unless it is at hand. Returns the size of its content.
    ///
    /// # Errors
    ///
    /// `EIO` when its bytes are not those that the digest says, `EUCLEAN` when its seek
    /// table is not sound, `ENOMEM`, and what reading says.
    pub(crate) fn load(&mut self, key: &Key, chunk: &Stored<'_>) -> Result<usize> {
        if !self.holds(key) {
            self.holds = None;
            self.decompressed = 0;
            self.consumed = Some(0);
            chunk.read(self.stored.resize(chunk.size()?)?)?;
            self.holds = Some(*key);
        }
        let stored = self.stored.get();
        if !key.compressed {
            return Ok(stored.len());
        }
        let table = SeekTable::parse(stored).map_err(|error| {
            chunk.report(format_args!("cannot be decompressed: {error}"));
            errno(error)
        })?;
        usize::try_from(table.decompressed_size()).map_err(|_| EUCLEAN)
    }

    /// Writes the content of the loaded `chunk` to `buffer`, which is of its size.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not decompress, `ENOMEM`.
    pub(crate) fn write_to(&mut self, buffer: &mut [u8], chunk: &Stored<'_>) -> Result {
        let is_raw = self.holds.is_some_and(|key| !key.compressed);
        let plain = if is_raw {
            self.stored.get()
        } else {
            self.content.get().get(..self.decompressed).unwrap_or(&[])
        };
        if let Some(plain) = plain.get(..buffer.len()) {
            buffer.copy_from_slice(plain);
            return Ok(());
        }
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::Context::new()?),
        };
        // A context knows nothing of the frame before, but a stream does.
        decompress(context, self.stored.get(), buffer).inspect_err(|error| {
            chunk.report(format_args!("cannot be decompressed: {error:?}"));
        })
    }

    /// The first `end` bytes of the content of the loaded `chunk`, which has `size` bytes,
    /// in memory of the slot. No more than those are decompressed, if possible, and what
    /// follows can be later.
    ///
    /// # Errors
    ///
    /// As of [`Slot::write_to`].
    pub(crate) fn content(&mut self, end: usize, size: usize, chunk: &Stored<'_>) -> Result<&[u8]> {
        if self.holds.is_some_and(|key| !key.compressed) {
            return self.stored.get().get(..end).ok_or(EUCLEAN);
        }
        if self.decompressed < end && !self.stream_to(end, size) {
            self.decompressed = 0;
            self.consumed = None;
            let mut content = core::mem::take(&mut self.content);
            let result = content
                .resize(size)
                .and_then(|buffer| self.write_to(buffer, chunk));
            self.content = content;
            result?;
            self.decompressed = size;
        }
        self.content.get().get(..end).ok_or(EUCLEAN)
    }

    /// Decompresses up to `end`. False if that does not work: there is no memory for it,
    /// there are several frames, one with a large window, or one that is not sound.
    fn stream_to(&mut self, end: usize, size: usize) -> bool {
        let (Some(consumed), true) = (self.consumed, size <= MAX_STREAM_BYTES) else {
            return false;
        };
        let mut step = || -> Result {
            let stored = self.stored.get();
            let table = SeekTable::parse(stored).map_err(errno)?;
            let frame = table.frames().next().ok_or(EUCLEAN)?;
            let frame_end = usize::try_from(frame.stored_size).map_err(|_| EUCLEAN)?;
            let mut source = stored.get(consumed..frame_end).ok_or(EUCLEAN)?;
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => none.insert(zstd::Stream::new(MAX_STREAM_BYTES)?),
            };
            if consumed == 0 {
                stream.reset();
                self.content.resize(size)?;
            }
            let wanted = self.content.get_mut(self.decompressed..end);
            stream.read(wanted.ok_or(EUCLEAN)?, &mut source)?;
            self.consumed = frame_end.checked_sub(source.len());
            self.decompressed = end;
            Ok(())
        };
        step().is_ok()
    }

    /// How much memory the slot takes, in bytes, zstd's own aside.
    pub(crate) fn bytes(&self) -> usize {
        self.stored
            .bytes
            .len()
            .saturating_add(self.content.bytes.len())
    }
}

/// Decompresses the frames of `stored` into `buffer`, which is of the size that their seek
/// table says.
fn decompress(context: &mut zstd::Context, stored: &[u8], mut buffer: &mut [u8]) -> Result {
    let table = SeekTable::parse(stored).map_err(errno)?;
    // The table's frames are in order and cover all of it.
    for frame in table.frames() {
        let start = usize::try_from(frame.stored_offset).map_err(|_| EUCLEAN)?;
        let len = usize::try_from(frame.stored_size).map_err(|_| EUCLEAN)?;
        let source = stored.get(start..).and_then(|rest| rest.get(..len));
        let size = usize::try_from(frame.size).map_err(|_| EUCLEAN)?;
        let (part, rest) = buffer.split_at_mut_checked(size).ok_or(EUCLEAN)?;
        context.decompress(part, source.ok_or(EUCLEAN)?)?;
        buffer = rest;
    }
    Ok(())
}
