// SPDX-License-Identifier: Apache-2.0
//! Which layers are being converted, and who waits for that.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::fault::Result;
use super::record::Kind;
use super::store::{Snapshot, Store};

/// What becomes of an ordinary layer that containerd has unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// It stays as it is, files for overlayfs.
    Stays,
    /// It becomes an image of the layout.
    IsConverted,
}

/// Layers that are being converted.
#[derive(Default)]
pub(super) struct Conversions {
    /// Their directories, and whether somebody who needs them must wait: not for those that nobody has begun, of the
    /// start. This is locked before the store.
    ids: Mutex<HashMap<u64, bool>>,
    one_is_done: Condvar,
    /// One at a time: a build has all processors.
    builds: Mutex<()>,
}

impl Conversions {
    /// A layer is new: whoever builds on it waits.
    pub fn begin(&self, id: u64) {
        lock(&self.ids).insert(id, true);
    }

    /// A layer is to be converted unless somebody needs it before.
    pub fn intend(&self, id: u64) {
        lock(&self.ids).insert(id, false);
    }

    /// Its turn has come; whether it is still to be converted.
    pub fn start(&self, id: u64) -> bool {
        let mut ids = lock(&self.ids);
        ids.get_mut(&id).map(|is_begun| *is_begun = true).is_some()
    }

    /// The conversion has ended, whose waiters go on; what `is_there` says, before anybody can take the layer away.
    pub fn end(&self, id: u64, is_there: impl FnOnce() -> bool) -> bool {
        let mut ids = lock(&self.ids);
        ids.remove(&id);
        let is_there = is_there();
        drop(ids);
        self.one_is_done.notify_all();
        is_there
    }

    /// The right to convert, for as long as it is held.
    pub fn one(&self) -> MutexGuard<'_, ()> {
        lock(&self.builds)
    }

    /// Waits for those of a chain. Whether there was one.
    pub fn wait(&self, chain: &[Snapshot]) -> bool {
        let mut ids = lock(&self.ids);
        ids.retain(|id, is_begun| *is_begun || !chain.iter().any(|it| it.id == *id));
        let mut has_waited = false;
        while chain.iter().any(|it| ids.contains_key(&it.id)) {
            has_waited = true;
            let woken = self.one_is_done.wait(ids);
            ids = woken.unwrap_or_else(PoisonError::into_inner);
        }
        has_waited
    }

    /// What `take` takes from the store, and whether it is being converted: then who does that removes what is left of it.
    pub fn taken<T>(&self, take: impl FnOnce() -> Result<(u64, T)>) -> Result<(T, bool)> {
        let mut ids = lock(&self.ids);
        let (id, taken) = take()?;
        let is_begun = ids.get(&id).copied().unwrap_or(false);
        if !is_begun {
            ids.remove(&id);
        }
        Ok((taken, is_begun))
    }
}

/// Layers of files that no container and no view uses.
pub(super) fn unused(store: &Store) -> Vec<Snapshot> {
    let users = store.all().filter(|it| it.record.kind != Kind::Committed);
    let chains = users.filter_map(|it| store.chain(&it.record.parent));
    let used: HashSet<u64> = chains.flatten().map(|it| it.id).collect();
    let is_it = |it: &&Snapshot| {
        let record = &it.record;
        record.kind == Kind::Committed && record.image.is_none() && !used.contains(&it.id)
    };
    store.all().filter(is_it).cloned().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
