// SPDX-License-Identifier: GPL-2.0

//! Bytes together with a view that borrows from them.

use core::marker::PhantomData;
use kernel::prelude::*;

/// A family of views that borrow from bytes.
pub trait View {
    /// The view of bytes that live for `'a`.
    type Of<'a>: Copy;

    /// Shortens a view's lifetime. An implementation can only return its argument,
    /// and that compiles only where `Of` is covariant: what [`Bound`] rests on.
    fn shorten<'long: 'short, 'short>(view: Self::Of<'long>) -> Self::Of<'short>;
}

/// Bytes on the heap and a [`View`] of them, parsed once.
///
/// # Invariants
///
/// `view` borrows from `_bytes` or from nothing, and those are not changed, moved
/// on the heap or freed before `view` is gone.
pub struct Bound<V: View> {
    view: V::Of<'static>,
    _bytes: KVVec<u8>,
    _family: PhantomData<V>,
}

impl<V: View> Bound<V> {
    /// Binds `bytes` to the view of them that `parse` makes.
    ///
    /// # Errors
    ///
    /// Those of `parse`.
    pub fn new<E>(
        bytes: KVVec<u8>,
        parse: impl for<'a> FnOnce(&'a [u8]) -> Result<V::Of<'a>, E>,
    ) -> Result<Self, E> {
        let slice: &[u8] = &bytes;
        // SAFETY: By the invariants of `Self`, the bytes stay where they are, unchanged,
        // for as long as the view is in use: it is never handed out but shortened to a
        // borrow of `Self`. `parse` works for any lifetime, so it cannot keep the slice.
        let slice: &'static [u8] =
            unsafe { core::slice::from_raw_parts(slice.as_ptr(), slice.len()) };
        // INVARIANT: `view` borrows from the bytes, which nothing here changes after.
        Ok(Self {
            view: parse(slice)?,
            _bytes: bytes,
            _family: PhantomData,
        })
    }

    /// The view.
    pub fn get(&self) -> V::Of<'_> {
        V::shorten(self.view)
    }
}
