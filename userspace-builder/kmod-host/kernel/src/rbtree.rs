// SPDX-License-Identifier: GPL-2.0

//! Ordered maps (`rust/kernel/rbtree.rs`), whose nodes are allocated before they are needed.

use crate::alloc::{Charge, Flags};
use crate::error::Result;
use std::collections::btree_map::{self, BTreeMap};

/// A map.
pub struct RBTree<K, V>(BTreeMap<K, (V, Charge)>);

/// Memory for an entry.
pub struct RBTreeNodeReservation<K, V> {
    charge: Charge,
    _of: core::marker::PhantomData<(K, V)>,
}

/// An entry that was taken out.
pub struct RBTreeNode<K, V>(#[allow(dead_code)] (K, V, Charge));

/// Where a key is, or would be.
pub enum Entry<'a, K, V> {
    /// It is there.
    Occupied(OccupiedEntry<'a, V>),
    /// It is not.
    Vacant(VacantEntry<'a, K, V>),
}

/// An entry that is there.
pub struct OccupiedEntry<'a, V>(&'a mut V);

/// The place for one.
pub struct VacantEntry<'a, K, V>(btree_map::VacantEntry<'a, K, (V, Charge)>);

/// Bytes of a node: its links, its key and its value.
const fn node_bytes<K, V>() -> usize {
    24 + size_of::<(K, V)>()
}

impl<K, V> RBTreeNodeReservation<K, V> {
    /// Allocates it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(_: Flags) -> Result<Self> {
        Ok(Self {
            charge: Charge::new(node_bytes::<K, V>())?,
            _of: core::marker::PhantomData,
        })
    }
}

impl<K, V> Default for RBTree<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> RBTree<K, V> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|(value, _)| value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(|(value, _)| value)
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, (value, _))| (key, value))
    }

    /// Where `key` is, or would be.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        match self.0.entry(key) {
            btree_map::Entry::Occupied(entry) => {
                Entry::Occupied(OccupiedEntry(&mut entry.into_mut().0))
            }
            btree_map::Entry::Vacant(entry) => Entry::Vacant(VacantEntry(entry)),
        }
    }

    /// Adds an entry, and gives back the one that it replaces.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn try_create_and_insert(
        &mut self,
        key: K,
        value: V,
        flags: Flags,
    ) -> Result<Option<RBTreeNode<K, V>>>
    where
        K: Clone,
    {
        let node = RBTreeNodeReservation::<K, V>::new(flags)?;
        let old = self.0.insert(key.clone(), (value, node.charge));
        Ok(old.map(|(value, charge)| RBTreeNode((key, value, charge))))
    }

    /// Takes out the entry of `key`.
    pub fn remove_node(&mut self, key: &K) -> Option<RBTreeNode<K, V>> {
        let (key, (value, charge)) = self.0.remove_entry(key)?;
        Some(RBTreeNode((key, value, charge)))
    }
}

impl<V> OccupiedEntry<'_, V> {
    /// Its value.
    pub fn get_mut(&mut self) -> &mut V {
        self.0
    }
}

impl<'a, K: Ord, V> VacantEntry<'a, K, V> {
    /// Puts `value` there, in memory that was allocated for it.
    pub fn insert(self, value: V, node: RBTreeNodeReservation<K, V>) -> &'a mut V {
        &mut self.0.insert((value, node.charge)).0
    }
}
