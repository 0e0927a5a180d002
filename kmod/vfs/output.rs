// SPDX-License-Identifier: GPL-2.0

//! Memory that is written before anyone reads it.

use core::mem::MaybeUninit;
use kernel::prelude::*;

/// Memory that is written from its begin to its end. What it held before cannot be read. A byte
/// counts as written only when it was copied there, or a decompressor of this crate says that
/// it has put it there.
///
/// # Invariants
///
/// The first `written` bytes of `memory` are initialised, and there are so many.
pub struct Output<'a> {
    memory: &'a mut [MaybeUninit<u8>],
    /// The count is the caller's. So a closure that replaces its output by another one, which is
    /// full, does not change what the caller knows of the memory.
    written: &'a mut usize,
}

impl<'a> Output<'a> {
    /// All of `bytes`, of which the first `written` stay. `written` goes on counting.
    pub fn resume(bytes: &'a mut [u8], written: &'a mut usize) -> Self {
        *written = (*written).min(bytes.len());
        // SAFETY: Both types have the same layout. Only this type and the callers of `next` write
        // to the memory, and they write bytes that are initialised.
        let memory = unsafe { &mut *(core::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) };
        // INVARIANT: All of it is initialised.
        Self { memory, written }
    }

    /// Has `fill` write all of `memory`, and returns that.
    ///
    /// # Errors
    ///
    /// `EIO` when it did not, and those of `fill`.
    pub(crate) fn fill(
        memory: &mut [MaybeUninit<u8>],
        fill: impl FnOnce(&mut Output<'_>) -> Result,
    ) -> Result<&[u8]> {
        let mut written = 0;
        // INVARIANT: Nothing counts as written.
        fill(&mut Output {
            memory: &mut *memory,
            written: &mut written,
        })?;
        if written != memory.len() {
            return Err(EIO);
        }
        // SAFETY: By the invariants all of it is initialised.
        Ok(unsafe { &*(core::ptr::from_ref(memory) as *const [u8]) })
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
        let memory = self.next(bytes.len())?;
        // SAFETY: The memory has that length. It is borrowed mutably, so `bytes` are elsewhere.
        // All of it is initialised when it is counted.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_mut_ptr().cast(), bytes.len());
            self.advance(bytes.len());
        }
        Ok(())
    }

    /// The next `len` bytes. Whoever has written them calls [`Output::advance`]; nobody writes
    /// what is not initialised.
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is more than are left to write.
    pub(crate) fn next(&mut self, len: usize) -> Result<&mut [MaybeUninit<u8>]> {
        let rest = self.memory.get_mut(*self.written..);
        rest.and_then(|rest| rest.get_mut(..len)).ok_or(EINVAL)
    }

    /// Counts the next `len` bytes as written.
    ///
    /// # Safety
    ///
    /// [`Output::next`] has lent these bytes, and they were written.
    pub(crate) unsafe fn advance(&mut self, len: usize) {
        // INVARIANT: By the caller.
        *self.written = self.written().saturating_add(len);
    }
}
