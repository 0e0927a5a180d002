// SPDX-License-Identifier: GPL-2.0

//! The means to read a chunk: memory for its bytes as stored, verified before anything
//! else is done with them, and for its content.

use super::decoder::Decoder;
use crate::{
    chunks::Stored,
    report::{errno, is_passing},
};
use kernel::prelude::*;
use puzzlefs_format::{self as format, Digest, Encoding};

/// What a slot holds: a chunk of a mount, since an image must not be able to read by its
/// digest what it does not have; and whether it is compressed, since a hostile image may
/// refer to the same bytes in both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// Of [`super::pool::Mounted`].
    pub(crate) mount: u64,
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
            self.bytes = KVVec::zeroed(len, GFP_KERNEL_ACCOUNT)?;
        }
        self.len = len;
        self.bytes.get_mut(..len).ok_or(EINVAL)
    }

    /// The buffer, `len` bytes long, with its first bytes as they were if `kept` is not 0.
    fn more(&mut self, len: usize, kept: usize) -> Result<&mut [u8]> {
        if kept == 0 {
            return self.resize(len);
        }
        self.bytes.get_mut(..len).ok_or(EINVAL)
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The means to read one chunk, and the last one read by them.
#[derive(Default)]
pub(crate) struct Slot {
    /// The chunk whose bytes are in `stored`.
    holds: Option<Key>,
    /// Whether they are verified.
    is_verified: bool,
    stored: Buffer,
    /// Its content, decompressed up to `decompressed`.
    content: Buffer,
    decompressed: usize,
    decoder: Decoder,
}

impl Slot {
    /// Whether the bytes of the chunk are at hand.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.holds.as_ref() == Some(key)
    }

    /// Reads and verifies `chunk`, unless it is at hand.
    ///
    /// # Errors
    ///
    /// `EIO` when its bytes are not those that the digest says, `ENOMEM`, and what reading says.
    pub(crate) fn load(&mut self, key: &Key, chunk: &Stored<'_>) -> Result {
        self.read(key, chunk)?;
        if self.is_verified {
            chunk.counters().chunk_hits.add(1);
            return Ok(());
        }
        let verified = chunk.verify(self.stored.get());
        verified.inspect_err(|_| self.holds = None)?;
        self.is_verified = true;
        Ok(())
    }

    /// `chunk`, which was loaded.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when it is not in a form that the image may have, `EINVAL` when it was not loaded.
    pub(crate) fn loaded<'a>(&'a mut self, key: &Key, chunk: &'a Stored<'a>) -> Result<Loaded<'a>> {
        if !self.holds(key) || !self.is_verified {
            return Err(EINVAL);
        }
        let stored = self.stored.get();
        let encoding = parse(key, chunk, stored).map_err(|error| {
            chunk.report(format_args!("cannot be decompressed: {error}"));
            errno(error)
        })?;
        Ok(Loaded {
            chunk,
            stored,
            size: size(&encoding, stored).ok_or(EUCLEAN)?,
            encoding,
            content: &mut self.content,
            decompressed: &mut self.decompressed,
            decoder: &mut self.decoder,
        })
    }

    /// Reads `chunk`, unless it is at hand, and allocates what [`Slot::load`] needs, and to
    /// decompress `len` bytes. Returns the size of its content, if what was read is the chunk.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when it is not in a form that it may have, `ENOMEM`, and what reading says.
    pub(crate) fn prepare(&mut self, key: &Key, chunk: &Stored<'_>, len: usize) -> Result<usize> {
        self.read(key, chunk)?;
        let stored = self.stored.get();
        let encoding = parse(key, chunk, stored).map_err(errno)?;
        let size = size(&encoding, stored).ok_or(EUCLEAN)?;
        if let Some(encoding) = &encoding {
            self.decoder.prepare(encoding, stored, len == size)?;
            if len < size {
                self.content.more(size, self.decompressed)?;
            }
        }
        Ok(size)
    }

    fn read(&mut self, key: &Key, chunk: &Stored<'_>) -> Result {
        if !self.holds(key) {
            self.holds = None;
            self.is_verified = false;
            self.decompressed = 0;
            self.decoder.restart();
            chunk.read(self.stored.resize(chunk.size()?)?)?;
            self.holds = Some(*key);
        }
        Ok(())
    }

    /// How much memory the slot takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.stored
            .bytes
            .len()
            .saturating_add(self.content.bytes.len())
            .saturating_add(self.decoder.bytes())
    }
}

/// How `stored` is compressed; none if it is not.
fn parse<'a>(
    key: &Key,
    chunk: &Stored<'_>,
    stored: &'a [u8],
) -> Result<Option<Encoding<'a>>, format::Error> {
    key.compressed
        .then(|| Encoding::parse(stored, chunk.version()))
        .transpose()
}

/// The size of the content.
fn size(encoding: &Option<Encoding<'_>>, stored: &[u8]) -> Option<usize> {
    match encoding {
        Some(encoding) => usize::try_from(encoding.decompressed_size()).ok(),
        None => Some(stored.len()),
    }
}

/// A chunk in a slot, verified.
pub(crate) struct Loaded<'a> {
    chunk: &'a Stored<'a>,
    stored: &'a [u8],
    /// None for a raw chunk.
    encoding: Option<Encoding<'a>>,
    size: usize,
    content: &'a mut Buffer,
    decompressed: &'a mut usize,
    decoder: &'a mut Decoder,
}

impl Loaded<'_> {
    /// The size of its content.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Writes the content to `buffer`, which is of its size.
    ///
    /// # Errors
    ///
    /// `EIO` when it does not decompress, `ENOMEM`.
    pub(crate) fn write_to(&mut self, buffer: &mut [u8]) -> Result {
        let Some(encoding) = &self.encoding else {
            return copy(buffer, self.stored);
        };
        if *self.decompressed == self.size {
            return copy(buffer, self.content.get());
        }
        let result = self.decoder.whole(encoding, self.stored, buffer);
        result.inspect_err(|error| self.report(error))
    }

    /// The first `end` bytes of the content, in memory of the slot. No more than those are
    /// decompressed, if possible, and what follows can be later.
    ///
    /// # Errors
    ///
    /// As of [`Loaded::write_to`], and `EUCLEAN` when it has fewer bytes.
    pub(crate) fn content(&mut self, end: usize) -> Result<&[u8]> {
        let Some(encoding) = &self.encoding else {
            return self.stored.get(..end).ok_or(EUCLEAN);
        };
        if end > self.size {
            return Err(EUCLEAN);
        }
        if *self.decompressed < end {
            // Should this fail, nothing of the buffer is to be relied on any more.
            let done = core::mem::take(self.decompressed);
            let buffer = self.content.more(self.size, done)?;
            let result = self
                .decoder
                .advance(encoding, self.stored, buffer, done, end);
            *self.decompressed = result.inspect_err(|error| self.report(error))?;
        }
        self.content.get().get(..end).ok_or(EUCLEAN)
    }

    /// Writes what begins at `start` of the content to `buffer`.
    ///
    /// # Errors
    ///
    /// As of [`Loaded::content`].
    pub(crate) fn copy_to(&mut self, start: usize, buffer: &mut [u8]) -> Result {
        let content = self.content(start.saturating_add(buffer.len()))?;
        copy(buffer, content.get(start..).unwrap_or_default())
    }

    fn report(&self, error: &Error) {
        if !is_passing(*error) {
            let chunk = self.chunk;
            chunk.report(format_args!("cannot be decompressed: {error:?}"));
        }
    }
}

fn copy(buffer: &mut [u8], content: &[u8]) -> Result {
    buffer.copy_from_slice(content.get(..buffer.len()).ok_or(EIO)?);
    Ok(())
}
