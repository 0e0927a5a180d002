// SPDX-License-Identifier: GPL-2.0

//! Page caches that several superblocks share (`iget5_locked` of an internal one), by a
//! fingerprint of what is in them. They stay as long as there is a [`SharedCaches`].

use crate::PrivateCache;
use kernel::prelude::*;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Says which content a file has: files with the same one have the same.
pub type Fingerprint = [u8; 32];

/// Access to the shared page caches.
#[derive(Debug, Default)]
pub struct SharedCaches {
    caches: Mutex<BTreeMap<Fingerprint, Arc<PrivateCache>>>,
}

impl SharedCaches {
    /// The page cache for content `fingerprint`, to be filled by whoever has got it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn cache(&self, fingerprint: &Fingerprint) -> Result<SharedCache> {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = caches.entry(*fingerprint);
        let cache = cache.or_insert_with(|| Arc::new(PrivateCache::new()));
        Ok(SharedCache(cache.clone()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let caches = self.caches.lock();
        caches.unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A page cache of its own for content that several superblocks use.
#[derive(Debug)]
pub struct SharedCache(Arc<PrivateCache>);

impl Deref for SharedCache {
    type Target = PrivateCache;

    fn deref(&self) -> &PrivateCache {
        &self.0
    }
}
