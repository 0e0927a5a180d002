// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Directories from one entry to the next.

use crate::capnp::Run;
use crate::entry::Raw;
use crate::{Dir, DirEntry, Error};

/// Goes through a directory's entries, those of removed inodes among them. Little work for each,
/// as most lie side by side.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a>(Option<Run<'a>>);

impl<'a> Listing<'a> {
    /// From entry `index` on.
    #[inline]
    pub(crate) fn new(dir: &Dir<'a>, index: u32) -> Self {
        Self(dir.list().map(|entries| entries.run(index)))
    }

    /// The next entry; `None` behind the last.
    #[inline]
    pub fn next_entry(&mut self) -> Result<Option<DirEntry<'a>>, Error> {
        let Some(entries) = &mut self.0 else {
            return Ok(None);
        };
        if entries.near().is_none() {
            if entries.is_done() {
                return Ok(None);
            }
            entries.look()?;
        }
        let entry = match entries.near().and_then(Raw::near) {
            Some(entry) => entry,
            None => {
                let index = entries.index();
                Raw::walk_far(entries.list(), index)?
            }
        };
        entries.advance();
        DirEntry::new(entry).map(Some)
    }
}
