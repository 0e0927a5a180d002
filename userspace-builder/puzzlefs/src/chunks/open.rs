// SPDX-License-Identifier: Apache-2.0
//! Packs that are open: a few at a time, however many an image or a layout has. One is opened
//! again when it is needed again; whatever it is then, its chunks are checked as ever.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use puzzlefs_format::Digest;

use crate::layout::Layout;

/// How many stay open, if nobody wants more. Each thread has one in use; the chunks of a file lie in few.
const OPEN: usize = 16;

/// The files that are open, the one that was used last at the end.
pub struct Open {
    files: Mutex<VecDeque<(Digest, Arc<File>)>>,
    limit: usize,
}

impl Default for Open {
    fn default() -> Self {
        Self::up_to(OPEN)
    }
}

impl Open {
    /// Keeps up to so many open.
    pub fn up_to(limit: usize) -> Self {
        Open {
            files: Mutex::default(),
            limit,
        }
    }

    /// The pack `digest` of `layout`. The file stays open as long as somebody has it.
    pub fn get(&self, layout: &Layout, digest: &Digest) -> Result<Arc<File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.iter().position(|(known, _)| known == digest);
        let entry = match known.and_then(|index| files.remove(index)) {
            Some(entry) => entry,
            None => (*digest, Arc::new(layout.open_blob(digest)?)),
        };
        let file = entry.1.clone();
        files.push_back(entry);
        if files.len() > self.limit {
            files.pop_front();
        }
        Ok(file)
    }
}
