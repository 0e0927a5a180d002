// SPDX-License-Identifier: GPL-2.0

//! The means to read a chunk: memory for its bytes as stored, verified before anything
//! else is done with them, and a context to decompress them.

use crate::{error::errno, store::Stored};
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
    /// Whether its content is in `content`, decompressed.
    is_decompressed: bool,
    content: Buffer,
    /// Made when first needed: raw images do without.
    context: Option<zstd::Context>,
}

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
            self.is_decompressed = false;
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

    /// The content in memory of the slot, if it is there.
    fn plain(&self) -> Option<&[u8]> {
        match self.holds {
            Some(key) if !key.compressed => Some(self.stored.get()),
            Some(_) if self.is_decompressed => Some(self.content.get()),
            _ => None,
        }
    }

    /// Writes the content of the loaded `chunk` to `buffer`, which is of its size.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not decompress, `ENOMEM`.
    pub(crate) fn write_to(&mut self, buffer: &mut [u8], chunk: &Stored<'_>) -> Result {
        if let Some(plain) = self.plain() {
            buffer.copy_from_slice(plain.get(..buffer.len()).ok_or(EIO)?);
            return Ok(());
        }
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::Context::new()?),
        };
        decompress(context, self.stored.get(), buffer).inspect_err(|error| {
            chunk.report(format_args!("cannot be decompressed: {error:?}"));
        })
    }

    /// The content of the loaded `chunk`, which has `size` bytes, in memory of the slot.
    ///
    /// # Errors
    ///
    /// As of [`Slot::write_to`].
    pub(crate) fn content(&mut self, size: usize, chunk: &Stored<'_>) -> Result<&[u8]> {
        if self.plain().is_none() {
            let mut content = core::mem::take(&mut self.content);
            let result = content
                .resize(size)
                .and_then(|buffer| self.write_to(buffer, chunk));
            self.content = content;
            result?;
            self.is_decompressed = true;
        }
        self.plain().ok_or(EIO)
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
