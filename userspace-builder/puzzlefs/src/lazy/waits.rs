// SPDX-License-Identifier: Apache-2.0
//! Readers that wait for an engine in threads of this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those that wait, by the numbers that the engine has for them.
#[derive(Default)]
pub struct Waits {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, SyncSender<bool>>>,
}

impl Waits {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, SyncSender<bool>>> {
        // Each statement leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more: its number, and where it hears whether what it waits for is there.
    pub fn begin(&self) -> (u64, Receiver<bool>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = sync_channel(1);
        self.waiting().insert(number, sender);
        (number, receiver)
    }

    /// It need not wait any more, as what it waits for is there, or as it did not come.
    pub fn end(&self, number: u64, is_there: bool) {
        if let Some(sender) = self.waiting().remove(&number) {
            // Who does not listen has gone.
            let _ = sender.try_send(is_there);
        }
    }

    /// It has gone.
    pub fn leave(&self, number: u64) {
        self.waiting().remove(&number);
    }
}
