// SPDX-License-Identifier: GPL-2.0

//! Atomic numbers (`rust/kernel/sync/atomic.rs`).

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Nothing is ordered.
#[derive(Clone, Copy, Debug)]
pub struct Relaxed;

/// A number, or a `bool`.
#[derive(Debug)]
pub struct Atomic<T: Atomically>(T::Cell);

/// What can be atomic. Each function does what that of [`Atomic`] with its name does.
#[allow(missing_docs)]
pub trait Atomically: Copy {
    type Cell;
    fn cell(self) -> Self::Cell;
    fn load(cell: &Self::Cell) -> Self;
    fn store(self, cell: &Self::Cell);
    fn xchg(self, cell: &Self::Cell) -> Self;
    fn cmpxchg(cell: &Self::Cell, old: Self, new: Self) -> Result<Self, Self>;
}

/// What can be added to.
#[allow(missing_docs)]
pub trait Number: Atomically {
    fn fetch_add(self, cell: &Self::Cell) -> Self;
    fn fetch_sub(self, cell: &Self::Cell) -> Self;
}

impl<T: Atomically> Atomic<T> {
    /// With this value.
    pub fn new(value: T) -> Self {
        Self(value.cell())
    }

    /// The value.
    pub fn load(&self, _: Relaxed) -> T {
        T::load(&self.0)
    }

    /// Changes it to `value`.
    pub fn store(&self, value: T, _: Relaxed) {
        value.store(&self.0);
    }

    /// Changes it to `value`, and returns what it was.
    pub fn xchg(&self, value: T, _: Relaxed) -> T {
        value.xchg(&self.0)
    }

    /// Changes it from `old` to `new`, and returns what it was.
    ///
    /// # Errors
    ///
    /// What it is instead of `old`.
    pub fn cmpxchg(&self, old: T, new: T, _: Relaxed) -> Result<T, T> {
        T::cmpxchg(&self.0, old, new)
    }
}

impl<T: Number> Atomic<T> {
    /// Adds `value`. It wraps.
    pub fn add(&self, value: T, _: Relaxed) {
        value.fetch_add(&self.0);
    }

    /// The same, and returns what it was.
    pub fn fetch_add(&self, value: T, _: Relaxed) -> T {
        value.fetch_add(&self.0)
    }

    /// Takes `value` off, and returns what it was. It wraps.
    pub fn fetch_sub(&self, value: T, _: Relaxed) -> T {
        value.fetch_sub(&self.0)
    }
}

macro_rules! atomically {
    ($($type:ty, $cell:ident;)*) => {$(
        impl Atomically for $type {
            type Cell = $cell;

            fn cell(self) -> $cell {
                $cell::new(self)
            }

            fn load(cell: &$cell) -> Self {
                cell.load(Ordering::Relaxed)
            }

            fn store(self, cell: &$cell) {
                cell.store(self, Ordering::Relaxed);
            }

            fn xchg(self, cell: &$cell) -> Self {
                cell.swap(self, Ordering::Relaxed)
            }

            fn cmpxchg(cell: &$cell, old: Self, new: Self) -> Result<Self, Self> {
                cell.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
            }
        }
    )*};
}

macro_rules! number {
    ($($type:ty, $cell:ident;)*) => {
        atomically! { $($type, $cell;)* }

        $(
            impl Number for $type {
                fn fetch_add(self, cell: &$cell) -> Self {
                    cell.fetch_add(self, Ordering::Relaxed)
                }

                fn fetch_sub(self, cell: &$cell) -> Self {
                    cell.fetch_sub(self, Ordering::Relaxed)
                }
            }
        )*
    };
}

atomically! { bool, AtomicBool; }
number! { u32, AtomicU32; u64, AtomicU64; usize, AtomicUsize; }
