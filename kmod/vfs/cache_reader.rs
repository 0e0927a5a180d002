// SPDX-License-Identifier: GPL-2.0

//! Reading a [`PrivateCache`] in place.

use crate::private_cache::{PinnedFolio, PrivateCache};
use core::cell::UnsafeCell;
use kernel::prelude::*;

/// How often a part is loaded again that was reclaimed before it could be used.
const MAX_LOADS: usize = 8;

/// Lends bytes of a [`PrivateCache`] as they lie there. What it has lent stays until it is
/// dropped: meant to live for one operation (`struct erofs_buf` for many blocks).
///
/// # Invariants
///
/// What is in `pins` and `copies` is not changed or dropped before `self` is.
pub struct CacheReader<'a> {
    cache: &'a PrivateCache,
    pins: UnsafeCell<KVec<PinnedFolio>>,
    /// What does not lie in one folio.
    copies: UnsafeCell<KVec<KVVec<u8>>>,
}

impl<'a> CacheReader<'a> {
    /// A reader of `cache` that has lent nothing.
    pub fn new(cache: &'a PrivateCache) -> Self {
        // INVARIANT: Nothing is there.
        Self {
            cache,
            pins: UnsafeCell::new(KVec::new()),
            copies: UnsafeCell::new(KVec::new()),
        }
    }

    /// The cache.
    pub fn cache(&self) -> &'a PrivateCache {
        self.cache
    }

    /// The `len` bytes at `position`. `load` is called with positions that are not there, to
    /// fill the cache with them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EFBIG` for a position that the page cache cannot have, and those of `load`.
    pub fn get(
        &self,
        position: u64,
        len: usize,
        mut load: impl FnMut(u64) -> Result,
    ) -> Result<&[u8]> {
        let bytes = self.from(position, &mut load)?;
        if let Some(bytes) = bytes.get(..len) {
            return Ok(bytes);
        }
        let mut copy = KVVec::with_capacity(len, GFP_KERNEL)?;
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        while copy.len() < len {
            let bytes = self.from(position.saturating_add(copy.len() as u64), &mut load)?;
            let bytes = bytes.get(..len - copy.len()).unwrap_or(bytes);
            copy.extend_from_slice(bytes, GFP_KERNEL)?;
        }
        // SAFETY: Nothing else refers to the vector itself: this type is not `Sync`, and
        // what is lent lies elsewhere on the heap.
        let copies = unsafe { &mut *self.copies.get() };
        copies.push(copy, GFP_KERNEL)?;
        let copy: &[u8] = copies.last().ok_or(EINVAL)?;
        // SAFETY: By the invariants it stays where it is, unchanged, as long as `self` is.
        Ok(unsafe { core::slice::from_raw_parts(copy.as_ptr(), copy.len()) })
    }

    /// The bytes of a folio from `position` on; at least one.
    fn from(&self, position: u64, load: &mut impl FnMut(u64) -> Result) -> Result<&[u8]> {
        let pinned = |pins: &KVec<PinnedFolio>| {
            let bytes = pins.iter().rev().find_map(|pin| pin.bytes(position))?;
            Some((bytes.as_ptr(), bytes.len()))
        };
        // SAFETY: Nobody changes the vector while this reference lives, which ends here.
        let mut found = pinned(unsafe { &*self.pins.get() });
        for _ in 0..MAX_LOADS {
            if let Some((start, len)) = found {
                // SAFETY: By the invariants the folio is pinned as long as `self` is, and the
                // content of a folio in a private cache does not change.
                return Ok(unsafe { core::slice::from_raw_parts(start, len) });
            }
            match self.cache.pin(position)? {
                Some(pin) => {
                    // SAFETY: Nothing else refers to the vector itself, as above.
                    let pins = unsafe { &mut *self.pins.get() };
                    pins.push(pin, GFP_KERNEL)?;
                    found = pinned(pins);
                }
                None => load(position)?,
            }
        }
        // Memory is so short that it goes before it can be used.
        Err(ENOMEM)
    }
}
