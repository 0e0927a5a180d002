// SPDX-License-Identifier: GPL-2.0

//! Values by number, of which most are never there.

use kernel::{prelude::*, sync::SetOnce};

/// How many entries a node of the tree has.
const FANOUT: u32 = 256;

/// One more than the largest number.
const END: u32 = FANOUT * FANOUT * FANOUT;

type Node<T> = KVec<SetOnce<T>>;

/// A table of values by number, up to 16,777,215. A value is put there once, and stays. To look
/// one up takes no lock. Memory is taken for the neighbourhood of values that are there: 4 KiB for
/// each 256 numbers, if a value takes a pointer.
pub(crate) struct Sparse<T> {
    root: SetOnce<Node<Node<Node<T>>>>,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self {
            root: SetOnce::new(),
        }
    }
}

impl<T> Sparse<T> {
    /// The value of `number`.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let [_, first, second, third] = number.to_be_bytes();
        if number >= END {
            return None;
        }
        let node = self.root.as_ref()?.get(usize::from(first))?.as_ref()?;
        let node = node.get(usize::from(second))?.as_ref()?;
        node.get(usize::from(third))?.as_ref()
    }

    /// Puts `value` there for `number`. False if there was one already, which stays.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a number that is too large, `ENOMEM`.
    pub(crate) fn populate(&self, number: u32, value: T) -> Result<bool> {
        let [_, first, second, third] = number.to_be_bytes();
        if number >= END {
            return Err(EFBIG);
        }
        let node = child(node_in(&self.root)?, first)?;
        let node = node_in(child(node_in(node)?, second)?)?;
        Ok(child(node, third)?.populate(value))
    }
}

/// The node in `place`, made if it was not there.
fn node_in<T>(place: &SetOnce<Node<T>>) -> Result<&Node<T>> {
    if place.as_ref().is_none() {
        let mut node = KVec::with_capacity(FANOUT as usize, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..FANOUT {
            node.push(SetOnce::new(), GFP_KERNEL_ACCOUNT)?;
        }
        // Whoever was faster has made the same.
        place.populate(node);
    }
    // Of one that somebody is just putting there, nothing can be had.
    place.as_ref().ok_or(EAGAIN)
}

fn child<T>(node: &Node<T>, index: u8) -> Result<&SetOnce<T>> {
    node.get(usize::from(index)).ok_or(EINVAL)
}
