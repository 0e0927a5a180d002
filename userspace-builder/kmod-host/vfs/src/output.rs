// SPDX-License-Identifier: GPL-2.0

//! Memory that is written before anyone reads it (`kmod/vfs/output.rs`). Here all memory is
//! initialised: where it need not be, with [`POISON`].

use kernel::prelude::*;

/// What is in memory that nobody has written to.
pub(crate) const POISON: u8 = 0xa5;

/// Memory that is written once, from its begin to its end.
#[derive(Debug)]
pub struct Output<'a> {
    memory: &'a mut [u8],
    written: &'a mut usize,
}

impl<'a> Output<'a> {
    /// All of `bytes`, of which the first `written` are to stay. It counts there how many they are.
    pub fn resume(bytes: &'a mut [u8], written: &'a mut usize) -> Self {
        *written = (*written).min(bytes.len());
        Self {
            memory: bytes,
            written,
        }
    }

    /// Has `fill` write all of `memory`.
    ///
    /// # Errors
    ///
    /// `EIO` when it did not, and those of `fill`.
    pub(crate) fn fill(memory: &mut [u8], fill: impl FnOnce(&mut Output<'_>) -> Result) -> Result {
        let len = memory.len();
        let mut written = 0;
        fill(&mut Output::resume(memory, &mut written))?;
        if written == len {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        self.memory.len()
    }

    /// How many are written.
    pub fn written(&self) -> usize {
        *self.written
    }

    /// Forgets what is written from `position` on: it is written again.
    pub fn truncate(&mut self, position: usize) {
        *self.written = self.written().min(position);
    }

    /// Copies `bytes` behind what is written.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they are more than are left to write.
    pub fn write(&mut self, bytes: &[u8]) -> Result {
        self.next(bytes.len())?.copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }

    /// The next `len` bytes, to be written before [`Output::advance`].
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is more than are left to write.
    pub(crate) fn next(&mut self, len: usize) -> Result<&mut [u8]> {
        let rest = self.memory.get_mut(*self.written..);
        rest.and_then(|rest| rest.get_mut(..len)).ok_or(EINVAL)
    }

    /// Counts the next `len` bytes as written.
    pub(crate) fn advance(&mut self, len: usize) {
        *self.written += len;
    }
}
