// SPDX-License-Identifier: GPL-2.0

//! What is kept with an inode in memory.

use super::open_file::{OpenFile, Opens};
use crate::metadata::Access;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex, SetOnce,
    },
};
use puzzlefs_format::DirPlace;

const UNKNOWN: u32 = 0;
const SORTED: u32 = 1;
const UNSORTED: u32 = 2;

/// What this filesystem keeps with an inode in memory.
#[pin_data]
pub(crate) struct InodeData {
    /// Of a directory: where its entries are, once that is known.
    entries: SetOnce<DirPlace>,
    /// Of a directory: whether its entries are sorted, once that is known.
    order: Atomic<u32>,
    /// Of a directory: the entry behind the one that was looked up last. Whoever looks up
    /// all that it has read there asks for that one next.
    next: Atomic<u32>,
    /// Of a regular file: where its data is, once that is known and as long as this lives.
    kept: SetOnce<KBox<OpenFile>>,
    /// Of a regular file that is not kept so: its open files.
    #[pin]
    pub(super) opens: Mutex<Opens>,
}

impl InodeData {
    /// Nothing is known yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries: SetOnce::new(),
            order: Atomic::new(UNKNOWN),
            next: Atomic::new(0),
            kept: SetOnce::new(),
            opens <- new_mutex!(Opens::default()),
        })
    }

    /// The file, if it is kept.
    pub(crate) fn kept(&self) -> Option<&OpenFile> {
        self.kept.as_ref().map(|file| &**file)
    }

    /// Keeps the file. The caller holds the lock of `opens`.
    pub(super) fn keep(&self, file: KBox<OpenFile>) {
        self.kept.populate(file);
    }

    /// Of a directory: where its entries are, which `find` finds out once.
    pub(super) fn entries<E>(
        &self,
        find: impl FnOnce() -> Result<DirPlace, E>,
    ) -> Result<DirPlace, E> {
        if let Some(entries) = self.entries.copy() {
            return Ok(entries);
        }
        let entries = find()?;
        // Whoever else looks at the same time finds the same.
        self.entries.populate(entries);
        Ok(entries)
    }

    /// Of a directory: how many entries it has, if that is known.
    pub(super) fn known_entries(&self) -> Option<u32> {
        self.entries.as_ref().map(DirPlace::len)
    }

    /// Of a directory: the entry that is probably looked up next.
    pub(super) fn next(&self) -> u32 {
        self.next.load(Relaxed)
    }

    /// Of a directory: says that entry `index` was looked up.
    pub(super) fn found(&self, index: u32) {
        self.next.store(index.saturating_add(1), Relaxed);
    }

    /// Of a directory: whether its entries are sorted, which `check` finds out once.
    pub(super) fn is_sorted<E>(&self, check: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        match self.order.load(Relaxed) {
            SORTED => Ok(true),
            UNSORTED => Ok(false),
            _ => {
                let sorted = check()?;
                // Whoever else checks at the same time finds the same.
                self.order
                    .store(if sorted { SORTED } else { UNSORTED }, Relaxed);
                Ok(sorted)
            }
        }
    }
}

/// An inode in memory, and how its metadata are read.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    /// Its number.
    pub(crate) ino: u64,
    /// What this filesystem keeps with it.
    pub(crate) data: &'a InodeData,
    /// The image that it is in.
    pub(crate) access: Access<'a>,
}
