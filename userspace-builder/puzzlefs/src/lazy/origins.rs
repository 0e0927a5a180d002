// SPDX-License-Identifier: Apache-2.0
//! The sources that records name, and those that the user wants to be asked first, each opened once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use puzzlefs_format::Digest;

use crate::base::error::{Error, Result};
use crate::remote::{Place, Remote};

type Open = dyn Fn(&Place) -> Result<Box<dyn Remote>> + Send + Sync;

/// A source that has failed is asked after the others for so long.
const LAST: Duration = Duration::from_secs(30);
/// Failures that are remembered.
const MOST_FAILED: usize = 1000;

/// Sources by the names that records have for them.
pub struct Origins {
    open: Box<Open>,
    /// Those that are asked before the ones that records name.
    before: Vec<String>,
    known: Mutex<HashMap<String, Source>>,
    /// When which source did not give something of which pack.
    failed: Mutex<HashMap<(String, Digest), Instant>>,
}

/// A source that is open.
#[derive(Clone)]
pub struct Source {
    /// Whom to ask.
    pub remote: Arc<dyn Remote>,
    /// What it is: see [`Place::kind`].
    pub kind: &'static str,
}

impl Origins {
    /// Sources that `open` opens.
    pub fn new(open: impl Fn(&Place) -> Result<Box<dyn Remote>> + Send + Sync + 'static) -> Self {
        Origins {
            open: Box::new(open),
            before: Vec::new(),
            known: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// The same, with these sources before those that records name.
    pub fn after(mut self, sources: &[Place]) -> Self {
        self.before = sources.iter().map(Place::to_string).collect();
        self
    }

    /// All are this one.
    pub fn only(remote: Arc<dyn Remote>) -> Self {
        let origins = Self::new(|_| Err(Error::trouble("there is one source only")));
        let kind = "other";
        origins
            .known()
            .insert(String::new(), Source { remote, kind });
        origins
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Source>> {
        // It is whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to ask for chunks of a pack, one after the other, where its record names these: those that have failed
    /// lately come last.
    pub fn order(&self, pack: &Digest, recorded: &[String]) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        for name in self.before.iter().chain(recorded) {
            if !order.contains(name) {
                order.push(name.clone());
            }
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let has_failed = |name: &String| {
            let when = failed.get(&(name.clone(), *pack));
            when.is_some_and(|when| when.elapsed() < LAST)
        };
        order.sort_by_key(has_failed);
        order
    }

    /// The source of this name.
    pub fn get(&self, name: &str) -> Result<Source> {
        let known = |known: &HashMap<String, Source>| known.get("").or(known.get(name)).cloned();
        if let Some(source) = known(&self.known()) {
            return Ok(source);
        }
        let place: Place = name.parse().map_err(Error::refused)?;
        // Nobody else waits for one that takes its time.
        let remote: Arc<dyn Remote> = (self.open)(&place)?.into();
        let kind = place.kind();
        let source = Source { remote, kind };
        let mut all = self.known();
        Ok(all.entry(name.to_owned()).or_insert(source).clone())
    }

    /// Notes that a source has not given what it was asked for. It is opened anew the next time, as credentials and
    /// addresses may be others then.
    pub fn fails(&self, name: &str, pack: &Digest) {
        self.known().remove(name);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MOST_FAILED {
            failed.retain(|_, when| when.elapsed() < LAST);
        }
        if failed.len() < MOST_FAILED {
            failed.insert((name.to_owned(), *pack), Instant::now());
        }
    }
}
