// SPDX-License-Identifier: GPL-2.0

//! Tables of what several use: each value is there once, and as long as somebody uses it.

use core::ops::Deref;
use kernel::{
    alloc::Flags,
    new_mutex,
    prelude::*,
    rbtree::{Entry, RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

/// A value with its key.
struct Pair<K, V> {
    key: K,
    value: V,
}

/// A value in the table, with its number of users.
struct Counted<K, V> {
    pair: Arc<Pair<K, V>>,
    users: usize,
}

/// The values that are in use.
#[pin_data]
pub(crate) struct Table<K, V> {
    #[pin]
    values: Mutex<RBTree<K, Counted<K, V>>>,
    /// How many they are.
    len: Atomic<usize>,
    /// Whose memory the values take.
    flags: Flags,
}

impl<K: Ord + Copy + Unpin, V: Unpin> Table<K, V> {
    /// A table without any. By `flags` it allocates what each value takes: `GFP_KERNEL_ACCOUNT` if
    /// whoever wants one first is to pay for it, `GFP_KERNEL` if it serves all.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(flags: Flags) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                values <- new_mutex!(RBTree::new()),
                len: Atomic::new(0),
                flags,
            }),
            GFP_KERNEL,
        )
    }

    /// The value of `key`, made by `make` if there is none.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `make`.
    pub(crate) fn get(
        this: &Arc<Self>,
        key: K,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<Lent<K, V>> {
        let lend = |counted: &mut Counted<K, V>| {
            counted.users = counted.users.saturating_add(1);
            Lent {
                table: this.clone(),
                pair: counted.pair.clone(),
            }
        };
        if let Some(counted) = this.values.lock().get_mut(&key) {
            return Ok(lend(counted));
        }
        // Without the lock: this may take long.
        let value = make()?;
        let mut ours = Counted {
            pair: Arc::new(Pair { key, value }, this.flags)?,
            users: 0,
        };
        let node = RBTreeNodeReservation::new(this.flags)?;
        let mut values = this.values.lock();
        let lent = match values.entry(key) {
            // Someone else has made it meanwhile. Ours is dropped, without the lock.
            Entry::Occupied(mut entry) => lend(entry.get_mut()),
            Entry::Vacant(entry) => {
                let lent = lend(&mut ours);
                entry.insert(ours, node);
                this.len.add(1, Relaxed);
                return Ok(lent);
            }
        };
        drop(values);
        Ok(lent)
    }

    /// Calls `visit` with each value. It must not use the table.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&V)) {
        for (_, counted) in self.values.lock().iter() {
            visit(&counted.pair.value);
        }
    }

    /// How many values are in use.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

/// A value that is in its table at least until this is dropped.
pub(crate) struct Lent<K: Ord + Copy + Unpin, V: Unpin> {
    table: Arc<Table<K, V>>,
    pair: Arc<Pair<K, V>>,
}

impl<K: Ord + Copy + Unpin, V: Unpin> Lent<K, V> {
    /// The key.
    pub(crate) fn key(&self) -> &K {
        &self.pair.key
    }
}

impl<K: Ord + Copy + Unpin, V: Unpin> Clone for Lent<K, V> {
    fn clone(&self) -> Self {
        if let Some(counted) = self.table.values.lock().get_mut(&self.pair.key) {
            counted.users = counted.users.saturating_add(1);
        }
        Self {
            table: self.table.clone(),
            pair: self.pair.clone(),
        }
    }
}

impl<K: Ord + Copy + Unpin, V: Unpin> Deref for Lent<K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.pair.value
    }
}

impl<K: Ord + Copy + Unpin, V: Unpin> Drop for Lent<K, V> {
    fn drop(&mut self) {
        let mut values = self.table.values.lock();
        let Some(counted) = values.get_mut(&self.pair.key) else {
            return;
        };
        counted.users = counted.users.saturating_sub(1);
        if counted.users == 0 {
            let node = values.remove_node(&self.pair.key);
            self.table.len.fetch_sub(1, Relaxed);
            // The value itself goes with us, without the lock.
            drop(values);
            drop(node);
        }
    }
}
