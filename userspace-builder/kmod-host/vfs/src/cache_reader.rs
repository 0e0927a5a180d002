// SPDX-License-Identifier: GPL-2.0

//! Reading a [`PrivateCache`] in place, with the limits of `kmod/vfs/cache_reader.rs`.

use crate::{private_cache::PinnedFolio, task::killed, PrivateCache};
use elsa::FrozenVec;
use kernel::prelude::*;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// How often a folio is loaded again that was reclaimed before it could be used.
const MAX_LOADS: usize = 8;

/// What is pinned and copied when a reader is full, in bytes and in folios.
const FULL_BYTES: usize = 1 << 20;
const FULL_PINS: usize = 32;

/// The most that one reader pins and copies, in bytes and in folios.
const MAX_BYTES: usize = 4 << 20;
const MAX_PINS: usize = 128;

/// Lends bytes of a [`PrivateCache`] as they lie there. What it has lent stays until it is
/// dropped.
pub struct CacheReader<'a> {
    cache: &'a PrivateCache,
    pins: FrozenVec<Arc<[u8]>>,
    /// Where each of them begins.
    starts: RefCell<Vec<u64>>,
    copies: FrozenVec<Vec<u8>>,
    bytes: Cell<usize>,
}

impl<'a> CacheReader<'a> {
    /// A reader of `cache` that has lent nothing.
    pub fn new(cache: &'a PrivateCache) -> Self {
        Self {
            cache,
            pins: FrozenVec::new(),
            starts: RefCell::default(),
            copies: FrozenVec::new(),
            bytes: Cell::new(0),
        }
    }

    /// Whether it has lent so much that the next step had better have a reader of its own.
    pub fn is_full(&self) -> bool {
        self.bytes.get() >= FULL_BYTES || self.pins.len() >= FULL_PINS
    }

    fn take(&self, len: usize) -> Result {
        let bytes = self.bytes.get().saturating_add(len);
        if bytes > MAX_BYTES {
            return Err(EFBIG);
        }
        self.bytes.set(bytes);
        Ok(())
    }

    /// The cache.
    pub fn cache(&self) -> &'a PrivateCache {
        self.cache
    }

    /// The folio that holds `position`: where in the cache it begins, and its bytes. `load`
    /// is called with a position that is not there, to fill the cache with it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EFBIG` if the reader has lent all that it may, `EINTR` when the task was killed,
    /// and those of `load`.
    pub fn folio(
        &self,
        position: u64,
        mut load: impl FnMut(u64) -> Result,
    ) -> Result<(u64, &[u8])> {
        for _ in 0..MAX_LOADS {
            if let Some(found) = self.pinned(position) {
                return Ok(found);
            }
            if killed() {
                return Err(EINTR);
            }
            match self.cache.pin(position)? {
                Some(pin) => self.add(pin)?,
                None => load(position)?,
            }
        }
        self.pinned(position).ok_or(ENOMEM)
    }

    /// A copy of the `len` bytes at `position`, for those that do not lie in one folio.
    ///
    /// # Errors
    ///
    /// As [`CacheReader::folio`].
    pub fn join(
        &self,
        position: u64,
        len: usize,
        mut load: impl FnMut(u64) -> Result,
    ) -> Result<&[u8]> {
        self.take(len)?;
        let mut copy = Vec::with_capacity(len);
        while copy.len() < len {
            let at = position.saturating_add(copy.len() as u64);
            let (start, bytes) = self.folio(at, &mut load)?;
            let offset = usize::try_from(at - start).map_err(|_| EFBIG)?;
            let bytes = bytes.get(offset..).ok_or(EFBIG)?;
            copy.extend_from_slice(bytes.get(..len - copy.len()).unwrap_or(bytes));
        }
        Ok(self.copies.push_get(copy))
    }

    /// What is pinned and holds `position`.
    fn pinned(&self, position: u64) -> Option<(u64, &[u8])> {
        let starts = self.starts.borrow();
        starts.iter().enumerate().rev().find_map(|(index, start)| {
            let bytes = self.pins.get(index)?;
            let offset = position.checked_sub(*start)?;
            (offset < bytes.len() as u64).then_some((*start, bytes))
        })
    }

    fn add(&self, pin: PinnedFolio) -> Result {
        if self.pins.len() >= MAX_PINS {
            return Err(EFBIG);
        }
        self.take(pin.bytes.len())?;
        self.starts.borrow_mut().push(pin.position);
        self.pins.push(pin.bytes);
        Ok(())
    }
}
