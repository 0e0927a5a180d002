// SPDX-License-Identifier: GPL-2.0

//! Counting semaphores (`struct semaphore`).

use crate::bindings;
use kernel::{error::to_result, prelude::*, types::Opaque};

/// A number of permits. Whoever waits for one can be killed.
#[pin_data]
pub struct Semaphore {
    #[pin]
    raw: Opaque<bindings::semaphore>,
}

// SAFETY: Semaphores are used by all threads.
unsafe impl Send for Semaphore {}
// SAFETY: As above.
unsafe impl Sync for Semaphore {}

impl Semaphore {
    /// A semaphore of `permits`.
    pub fn new(permits: u32) -> impl PinInit<Self> {
        let permits = c_int::try_from(permits).unwrap_or(c_int::MAX);
        pin_init!(Self {
            raw <- Opaque::ffi_init(move |slot| {
                // SAFETY: `slot` is writable, and pinned from here on.
                unsafe { bindings::vfs_rs_sema_init(slot, permits) }
            }),
        })
    }

    /// Waits for a permit, and takes it until the result is dropped.
    ///
    /// # Errors
    ///
    /// `EINTR` when the task was killed.
    pub fn acquire(&self) -> Result<Permit<'_>> {
        // SAFETY: By `new` it is initialised.
        to_result(unsafe { bindings::down_killable(self.raw.get()) })?;
        Ok(Permit(self))
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        // SAFETY: As above.
        let missing = unsafe { bindings::down_trylock(self.raw.get()) };
        (missing == 0).then_some(Permit(self))
    }
}

/// A permit that is taken.
///
/// # Invariants
///
/// It is one of the semaphore's, and nobody else gives it back.
pub struct Permit<'a>(&'a Semaphore);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::up(self.0.raw.get()) };
    }
}
