// SPDX-License-Identifier: GPL-2.0

//! Counting semaphores (`struct semaphore`). A thread that would wait for itself panics.

use crate::{bit_lock::WAIT, task::is_killed};
use kernel::{
    init::{By, PinInit},
    prelude::*,
};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// A number of permits. Whoever waits for one can be killed.
#[derive(Debug)]
pub struct Semaphore {
    permits: usize,
    holders: Mutex<Vec<ThreadId>>,
    freed: Condvar,
}

impl Semaphore {
    /// A semaphore of `permits`.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(permits: u32) -> impl PinInit<Self> {
        By(move || {
            Ok(Self {
                permits: permits as usize,
                holders: Mutex::default(),
                freed: Condvar::new(),
            })
        })
    }

    /// Waits for a permit, and takes it until the result is dropped (`down_killable`).
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed.
    pub fn acquire(&self) -> Result<Permit<'_>> {
        let us = thread::current().id();
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if holders.len() < self.permits {
                holders.push(us);
                return Ok(Permit(self, us));
            }
            let is_ours = holders.iter().all(|holder| *holder == us);
            assert!(!is_ours, "this task waits for itself");
            if is_killed() {
                return Err(EINTR);
            }
            let waited = self.freed.wait_timeout(holders, WAIT);
            holders = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes a permit if there is one (`down_trylock`).
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let us = thread::current().id();
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.len() >= self.permits {
            return None;
        }
        holders.push(us);
        Some(Permit(self, us))
    }
}

/// A permit that is taken.
#[derive(Debug)]
pub struct Permit<'a>(&'a Semaphore, ThreadId);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut holders = self
            .0
            .holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = holders.iter().position(|holder| *holder == self.1) {
            holders.swap_remove(index);
        }
        self.0.freed.notify_all();
    }
}
