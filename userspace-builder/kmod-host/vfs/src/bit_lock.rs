// SPDX-License-Identifier: GPL-2.0

//! Locks of one bit each (`wait_on_bit_lock`). A thread that would wait for itself panics.

use crate::task::is_killed;
use kernel::prelude::*;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// How many locks there are.
const LOCKS: usize = 16 * usize::BITS as usize;

/// Who waits looks so often whether he was killed.
pub(crate) const WAIT: Duration = Duration::from_millis(5);

/// Locks for more things than there are locks: a hash of the thing chooses.
#[derive(Debug)]
pub struct BitLocks {
    owners: Mutex<[Option<ThreadId>; LOCKS]>,
    freed: Condvar,
}

impl Default for BitLocks {
    fn default() -> Self {
        Self {
            owners: Mutex::new([None; LOCKS]),
            freed: Condvar::new(),
        }
    }
}

impl BitLocks {
    /// Waits for the lock of what has this hash, and takes it until the result is dropped.
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed.
    pub fn lock(&self, hash: u16) -> Result<BitGuard<'_>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let owner = &mut owners[usize::from(hash) % LOCKS];
            if owner.is_none() {
                *owner = Some(thread::current().id());
                return Ok(BitGuard { locks: self, hash });
            }
            let is_ours = *owner == Some(thread::current().id());
            assert!(!is_ours, "this task waits for itself");
            if is_killed() {
                return Err(EINTR);
            }
            let waited = self.freed.wait_timeout(owners, WAIT);
            owners = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the lock of what has this hash if nobody has it.
    pub fn try_lock(&self, hash: u16) -> Option<BitGuard<'_>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = &mut owners[usize::from(hash) % LOCKS];
        if owner.is_some() {
            return None;
        }
        *owner = Some(thread::current().id());
        Some(BitGuard { locks: self, hash })
    }
}

/// A lock that is taken.
#[derive(Debug)]
pub struct BitGuard<'a> {
    locks: &'a BitLocks,
    hash: u16,
}

impl Drop for BitGuard<'_> {
    fn drop(&mut self) {
        let owners = self.locks.owners.lock();
        owners.unwrap_or_else(PoisonError::into_inner)[usize::from(self.hash) % LOCKS] = None;
        self.locks.freed.notify_all();
    }
}
