// SPDX-License-Identifier: Apache-2.0
//! The sources that records name, each opened once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::error::{Error, Result};
use crate::remote::{Place, Remote};

type Open = dyn Fn(&Place) -> Result<Box<dyn Remote>> + Send + Sync;

/// Sources by the names that records have for them.
pub struct Origins {
    open: Box<Open>,
    known: Mutex<HashMap<String, Arc<dyn Remote>>>,
}

impl Origins {
    /// Sources that `open` opens.
    pub fn new(open: impl Fn(&Place) -> Result<Box<dyn Remote>> + Send + Sync + 'static) -> Self {
        Origins {
            open: Box::new(open),
            known: Mutex::default(),
        }
    }

    /// All are this one.
    pub fn only(remote: Arc<dyn Remote>) -> Self {
        let origins = Self::new(|_| Err(Error::trouble("there is one source only")));
        let mut known = origins.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(String::new(), remote);
        drop(known);
        origins
    }

    /// The source of this name.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Remote>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = known.get("").or_else(|| known.get(name)) {
            return Ok(Arc::clone(remote));
        }
        let place: Place = name.parse().map_err(Error::refused)?;
        let remote: Arc<dyn Remote> = (self.open)(&place)?.into();
        known.insert(name.to_owned(), Arc::clone(&remote));
        Ok(remote)
    }

    /// Forgets a source, as credentials and addresses may be others now.
    pub fn forget(&self, name: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(name);
    }
}
