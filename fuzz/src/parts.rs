// SPDX-License-Identifier: Apache-2.0

//! A message in parts of any size, as the kernel has it in blocks.

use puzzlefs_format::{limits, Error, Part, Source};
use std::cell::Cell;

/// A message that is not in memory, as far as its reader knows.
pub struct Parts<'a> {
    message: &'a [u8],
    seed: u64,
    asked: Cell<u64>,
}

impl<'a> Parts<'a> {
    /// `message` in parts of 8 to 127 bytes, as `seed` has it.
    pub fn new(message: &'a [u8], seed: u64) -> Self {
        let asked = Cell::new(0);
        Self {
            message,
            seed,
            asked,
        }
    }

    /// How often bytes were asked for.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// The part that byte `at` is in: all are of one size, and the first is shorter by some.
    fn range(&self, at: usize) -> (usize, usize) {
        let size = 8 + (self.seed % 120) as usize;
        let shift = (self.seed >> 8) as usize % size;
        let start = (at + shift) / size * size;
        let end = (start + size - shift).min(self.message.len());
        (start.saturating_sub(shift), end)
    }

    fn count(&self) {
        self.asked.set(self.asked.get() + 1);
    }
}

impl Source for Parts<'_> {
    fn size(&self) -> usize {
        self.message.len()
    }

    fn part(&self, at: usize) -> Result<Part<'_>, Error> {
        assert!(at < self.message.len(), "{at} is behind the end");
        self.count();
        let (start, end) = self.range(at);
        let bytes = &self.message[start..end];
        Ok(Part { start, bytes })
    }

    fn join(&self, at: usize, len: usize) -> Result<&[u8], Error> {
        assert!(len <= limits::MAX_XATTR_VALUE_BYTES, "{len} bytes");
        assert!(at + len > self.range(at).1, "they are in one part");
        self.count();
        Ok(&self.message[at..at + len])
    }

    fn is_full(&self) -> bool {
        // Often, and not always in the same place.
        self.asked() % (2 + self.seed % 5) == 0
    }

    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn Source) -> Result<(), Error>,
    ) -> Result<(), Error> {
        function(self)
    }
}
