// SPDX-License-Identifier: Apache-2.0
//! Which chunks the files of an image use.

use std::collections::HashSet;

use anyhow::Context;
use puzzlefs_format::Kind;
use roaring::RoaringTreemap;

use super::chunk::Key;
use super::walk::{Step, Walk};
use super::Image;
use crate::base::error::Result;

impl Image {
    /// The chunks that its files use, each once, in order of first use.
    pub fn chunks(&self) -> Result<Vec<Key>> {
        let (mut seen, mut chunks) = (HashSet::new(), Vec::new());
        let mut files = RoaringTreemap::new();
        let mut walk = Walk::new(self)?;
        while let Some(step) = walk.next()? {
            let Step::Enter(inode) = step else {
                continue;
            };
            let Kind::File(extents) = inode.kind()? else {
                continue;
            };
            // Hard links have the same ones.
            if !files.insert(inode.ino()) {
                continue;
            }
            self.work().extents(&extents).with_context(|| walk.name())?;
            for extent in extents.iter() {
                let extent = extent.with_context(|| walk.name())?;
                let chunk = extent.chunk.map(|chunk| (chunk.digest, chunk.compressed));
                chunks.extend(chunk.filter(|chunk| seen.insert(*chunk)));
            }
        }
        Ok(chunks)
    }
}
