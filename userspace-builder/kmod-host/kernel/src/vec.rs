// SPDX-License-Identifier: GPL-2.0

//! Vectors (`rust/kernel/alloc/kvec.rs`): they grow as those do, and are counted.

use crate::alloc::{AllocError, Charge, Flags, KMALLOC_MAX, KVMALLOC_MAX};
use crate::error::Result;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A vector of which one allocation has up to `MAX` bytes.
pub struct Vector<T, const MAX: usize> {
    values: Vec<T>,
    charge: Option<Charge>,
}

/// One by `kmalloc`.
pub type KVec<T> = Vector<T, KMALLOC_MAX>;

/// One by `kvmalloc`.
pub type KVVec<T> = Vector<T, KVMALLOC_MAX>;

/// The vector is full; this is what was to be in it.
#[derive(Debug)]
pub struct PushError<T>(pub T);

/// There is no such element.
#[derive(Debug)]
pub struct RemoveError;

impl<T, const MAX: usize> Vector<T, MAX> {
    /// One without any values, or memory.
    pub const fn new() -> Self {
        Self {
            values: Vec::new(),
            charge: None,
        }
    }

    /// One with room for `capacity` values.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut this = Self::new();
        this.reserve(capacity, flags)?;
        Ok(this)
    }

    /// For how many values there is room.
    pub fn capacity(&self) -> usize {
        self.values.capacity()
    }

    /// Makes room for so many more: for twice as many as before, at least.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn reserve(&mut self, additional: usize, _: Flags) -> Result<(), AllocError> {
        let len = self.values.len();
        if additional <= self.capacity() - len {
            return Ok(());
        }
        let wanted = len.checked_add(additional).ok_or(AllocError)?;
        let capacity = wanted.max(self.capacity().saturating_mul(2));
        let bytes = capacity.checked_mul(size_of::<T>()).ok_or(AllocError)?;
        // The page allocator warns of such orders, whatever the flags are.
        assert!(bytes <= MAX, "one allocation of {bytes} bytes");
        // Both are there while what is in it is copied.
        let charge = Charge::new(bytes)?;
        let more = capacity - len;
        self.values
            .try_reserve_exact(more)
            .map_err(|_| AllocError)?;
        self.charge = Some(charge);
        Ok(())
    }

    /// Adds a value at the end.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.values.push(value);
        Ok(())
    }

    /// The same if there is room.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.values.len() == self.capacity() {
            return Err(PushError(value));
        }
        self.values.push(value);
        Ok(())
    }

    /// Takes the last one out.
    pub fn pop(&mut self) -> Option<T> {
        self.values.pop()
    }

    /// Takes value `index` out; those behind move up.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn remove(&mut self, index: usize) -> Result<T, RemoveError> {
        if index >= self.values.len() {
            return Err(RemoveError);
        }
        Ok(self.values.remove(index))
    }
}

impl<T: Clone, const MAX: usize> Vector<T, MAX> {
    /// Adds copies of `others` at the end.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn extend_from_slice(&mut self, others: &[T], flags: Flags) -> Result<(), AllocError> {
        self.reserve(others.len(), flags)?;
        self.values.extend_from_slice(others);
        Ok(())
    }
}

impl<T: Clone + Default, const MAX: usize> Vector<T, MAX> {
    /// One of `len` zeroes.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn zeroed(len: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut this = Self::with_capacity(len, flags)?;
        this.values.resize(len, T::default());
        Ok(this)
    }
}

impl<T, const MAX: usize> Default for Vector<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const MAX: usize> Deref for Vector<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T, const MAX: usize> DerefMut for Vector<T, MAX> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for Vector<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a Vector<T, MAX> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.iter()
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a mut Vector<T, MAX> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.iter_mut()
    }
}

impl<T, const MAX: usize> IntoIterator for Vector<T, MAX> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter {
            values: self.values.into_iter(),
            _charge: self.charge,
        }
    }
}

/// The values of a vector, taken out. Its memory goes with this.
#[derive(Debug)]
pub struct IntoIter<T> {
    values: std::vec::IntoIter<T>,
    _charge: Option<Charge>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.values.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.values.size_hint()
    }
}
