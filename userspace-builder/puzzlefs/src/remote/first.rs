// SPDX-License-Identifier: Apache-2.0
//! Several places: one names the image, and others are asked for its blobs before that one.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use puzzlefs_format::Digest;

use super::place::Place;
use super::seam::{Document, Part, Remote};
use crate::base::error::Result;
use crate::layout::reference::Name;

type Open = dyn Fn(&Place) -> Result<Box<dyn Remote>> + Send + Sync;

/// More than any place has mirrors.
const MIRRORS: usize = 1 << 16;

/// Opens a place when it is first asked.
struct Later {
    place: Place,
    remote: OnceLock<Box<dyn Remote>>,
}

struct First {
    before: Vec<Later>,
    open: Box<Open>,
    last: Box<dyn Remote>,
    /// The first one that is asked: those before it gave something wrong.
    trusted: AtomicUsize,
}

/// `last`, with the places `before` asked for blobs first, in their order. A place that gives none is left out; its
/// error is lost where another one gives it.
pub fn first_of(
    before: Vec<Place>,
    open: impl Fn(&Place) -> Result<Box<dyn Remote>> + Send + Sync + 'static,
    last: Box<dyn Remote>,
) -> Box<dyn Remote> {
    if before.is_empty() {
        return last;
    }
    let later = |place| Later {
        place,
        remote: OnceLock::new(),
    };
    Box::new(First {
        before: before.into_iter().map(later).collect(),
        open: Box::new(open),
        last,
        trusted: AtomicUsize::new(0),
    })
}

impl First {
    /// The one of this number; the last one if there are no more.
    fn get(&self, number: usize) -> Result<&dyn Remote> {
        let Some(later) = self.before.get(number) else {
            return Ok(&*self.last);
        };
        if let Some(remote) = later.remote.get() {
            return Ok(&**remote);
        }
        let remote = (self.open)(&later.place)?;
        Ok(&**later.remote.get_or_init(|| remote))
    }

    /// What the first one gives that gives it.
    fn any<'a, T>(&'a self, ask: impl Fn(&'a dyn Remote) -> Result<T>) -> Result<T> {
        let trusted = self.trusted.load(Ordering::Relaxed);
        for number in trusted..self.before.len() {
            if let Ok(given) = self.get(number).and_then(&ask) {
                return Ok(given);
            }
        }
        ask(&*self.last)
    }
}

impl Remote for First {
    fn name(&self) -> String {
        self.last.name()
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        self.last.manifest(name)
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.any(|remote| remote.blob(digest, size))
    }

    fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Part<'_>> {
        self.any(|remote| remote.range(digest, size, range.clone()))
    }

    fn first(&self) -> usize {
        let trusted = self.trusted.load(Ordering::Relaxed);
        let inner = self.get(trusted).map_or(0, Remote::first);
        trusted * MIRRORS + inner % MIRRORS
    }

    fn distrust(&self, first: usize) -> bool {
        let (number, inner) = (first / MIRRORS, first % MIRRORS);
        if self.get(number).is_ok_and(|remote| remote.distrust(inner)) {
            return true;
        }
        let next = number + 1;
        let is_more = next <= self.before.len();
        if is_more {
            self.trusted.fetch_max(next, Ordering::Relaxed);
        }
        is_more
    }
}
