// SPDX-License-Identifier: GPL-2.0

//! What several threads share (`rust/kernel/sync`).

pub mod atomic;

use crate::alloc::{AllocError, Charge, Flags};
use crate::error::{Error, Result};
use crate::init::PinInit;
use core::convert::Infallible;
use core::ops::Deref;
use std::sync::{self, OnceLock, PoisonError};

/// A value with a count of its users (`Arc`).
#[derive(Debug)]
pub struct Arc<T>(sync::Arc<(T, Charge)>);

impl<T> Arc<T> {
    /// `value`, with one user.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn new(value: T, _: Flags) -> Result<Self, AllocError> {
        let charge = Charge::new(size_of::<(usize, T)>())?;
        Ok(Self(sync::Arc::new((value, charge))))
    }

    /// What `init` makes, with one user.
    ///
    /// # Errors
    ///
    /// When there is no memory, and those of `init`.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        Ok(Self::new(init.make()?, flags)?)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0 .0
    }
}

/// A lock (`struct mutex`).
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// One that nobody may sleep with (`spinlock_t`).
pub type SpinLock<T> = Mutex<T>;

/// A lock that is taken.
pub type Guard<'a, T> = sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    /// A lock of `value`.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Takes it. A thread that has panicked with it is not the other ones' problem.
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> PinInit<Mutex<T>, Infallible> for Mutex<T> {
    fn make(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

/// An initialiser of a lock.
#[macro_export]
macro_rules! new_mutex {
    ($value:expr) => {
        $crate::sync::Mutex::new($value)
    };
}

/// The same of a spinning one.
#[macro_export]
macro_rules! new_spinlock {
    ($value:expr) => {
        $crate::sync::SpinLock::new($value)
    };
}

/// A value that is put there once (`SetOnce`). Where two do so at once, the second one waits
/// here for the first, which it would not there.
#[derive(Debug)]
pub struct SetOnce<T>(OnceLock<T>);

impl<T> SetOnce<T> {
    /// One without a value.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value.
    #[allow(clippy::should_implement_trait)]
    pub fn as_ref(&self) -> Option<&T> {
        self.0.get()
    }

    /// Puts `value` there. False if there is one.
    pub fn populate(&self, value: T) -> bool {
        self.0.set(value).is_ok()
    }

    /// A copy of the value.
    pub fn copy(&self) -> Option<T>
    where
        T: Copy,
    {
        self.0.get().copied()
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}
