// SPDX-License-Identifier: GPL-2.0

//! Locks of one bit each (`wait_on_bit_lock`).

use crate::bindings;
use kernel::{error::to_result, prelude::*, sync::atomic::Atomic};

/// How many words of locks there are. With 1024 locks the readers of some dozens of
/// processors rarely meet where they need not.
const WORDS: usize = 16;

/// Locks for more things than there are locks: a hash of the thing chooses. They may be held
/// while sleeping. A task that holds one must not wait for another: that may be the same lock, or
/// its holder may wait for this one.
pub struct BitLocks([Atomic<usize>; WORDS]);

impl Default for BitLocks {
    fn default() -> Self {
        Self([const { Atomic::new(0) }; WORDS])
    }
}

impl BitLocks {
    /// Waits for the lock of what has this hash, and takes it until the result is dropped.
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed.
    pub fn lock(&self, hash: u16) -> Result<BitGuard<'_>> {
        let (word, bit) = self.find(hash)?;
        // SAFETY: The word is valid, and has that bit.
        to_result(unsafe { bindings::vfs_rs_bit_lock_killable(word.as_ptr(), bit) })?;
        Ok(BitGuard { word, bit })
    }

    /// Takes the lock of what has this hash if nobody has it. A task that holds another lock may
    /// call this: it does not wait.
    pub fn try_lock(&self, hash: u16) -> Option<BitGuard<'_>> {
        let (word, bit) = self.find(hash).ok()?;
        // SAFETY: As above.
        let taken = unsafe { bindings::vfs_rs_bit_trylock(word.as_ptr(), bit) };
        taken.then_some(BitGuard { word, bit })
    }

    fn find(&self, hash: u16) -> Result<(&Atomic<usize>, c_uint)> {
        let word = usize::from(hash) / usize::BITS as usize % WORDS;
        let word = self.0.get(word).ok_or(EINVAL)?;
        Ok((word, u32::from(hash) % usize::BITS))
    }
}

/// A lock that is taken.
///
/// # Invariants
///
/// The bit is set by us.
pub struct BitGuard<'a> {
    word: &'a Atomic<usize>,
    bit: c_uint,
}

impl Drop for BitGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::vfs_rs_bit_unlock(self.word.as_ptr(), self.bit) };
    }
}
