// SPDX-License-Identifier: GPL-2.0

//! Memory (`rust/kernel/alloc`), of which is known how much there is in use, and which can fail.
//!
//! It is counted by thread: what one thread allocates and another frees counts for the first
//! for ever. So whoever counts uses one thread.

use crate::error::Result;
use crate::init::PinInit;
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use std::cell::Cell;

/// How memory is allocated. Here nothing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

/// Nobody's cgroup pays.
pub const GFP_KERNEL: Flags = Flags(0);

/// The cgroup of whoever allocates pays.
pub const GFP_KERNEL_ACCOUNT: Flags = Flags(1);

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// What one allocation may have, in bytes: beyond, the kernel warns, whatever there is
/// (`KMALLOC_MAX_SIZE`, and for `kvmalloc` what an `int` can hold).
pub(crate) const KMALLOC_MAX: usize = 4 << 20;
pub(crate) const KVMALLOC_MAX: usize = i32::MAX as usize;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static FAILS_IN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Memory that this thread has in use, in bytes.
pub fn in_use() -> isize {
    IN_USE.get()
}

/// The most that it has had since [`restart`].
pub fn peak() -> isize {
    PEAK.get()
}

/// How often it has allocated.
pub fn count() -> u64 {
    COUNT.get()
}

/// Has [`peak`] begin again.
pub fn restart() {
    PEAK.set(IN_USE.get());
}

/// Has one allocation of this thread fail, after so many others; or none any more.
pub fn fail_in(allocations: Option<u64>) {
    FAILS_IN.set(allocations);
}

/// Memory that counts as in use until this is dropped.
#[derive(Debug)]
pub struct Charge(usize);

impl Charge {
    /// An allocation of `bytes`.
    ///
    /// # Errors
    ///
    /// If it is to fail ([`fail_in`]).
    pub fn new(bytes: usize) -> Result<Self, AllocError> {
        if bytes == 0 {
            return Ok(Self(0));
        }
        COUNT.set(COUNT.get() + 1);
        match FAILS_IN.get() {
            Some(0) => {
                FAILS_IN.set(None);
                return Err(AllocError);
            }
            Some(left) => FAILS_IN.set(Some(left - 1)),
            None => {}
        }
        IN_USE.set(IN_USE.get() + bytes as isize);
        PEAK.set(PEAK.get().max(IN_USE.get()));
        Ok(Self(bytes))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        IN_USE.set(IN_USE.get() - self.0 as isize);
    }
}

/// A value on the heap (`KBox`).
#[derive(Debug)]
pub struct KBox<T> {
    value: Box<T>,
    _charge: Charge,
}

impl<T> KBox<T> {
    /// `value` on the heap.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn new(value: T, _: Flags) -> Result<Self, AllocError> {
        let _charge = Charge::new(size_of::<T>())?;
        let value = Box::new(value);
        Ok(Self { value, _charge })
    }
}

impl<T: Unpin> KBox<T> {
    /// The same, pinned.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn pin(value: T, flags: Flags) -> Result<Pin<Self>, AllocError> {
        Ok(Pin::new(Self::new(value, flags)?))
    }

    /// What `init` makes, pinned.
    ///
    /// # Errors
    ///
    /// When there is no memory, and those of `init`.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Pin<Self>>
    where
        crate::error::Error: From<E>,
    {
        Ok(Self::pin(init.make()?, flags)?)
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
