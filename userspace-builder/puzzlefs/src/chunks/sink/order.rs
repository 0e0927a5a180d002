// SPDX-License-Identifier: Apache-2.0
//! Packs whose chunks are in another order than they came in: those that are read first stand side by side.
//!
//! Where chunks begin and end, and what they are, is as ever: an image is the same with it, but for its packs. Which
//! chunks are read first is known only when all are cut. So they wait in a file without a name.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use puzzlefs_format::Digest;

use super::{Form, Home, Sink};
use crate::chunks::waiting::{is_mixed, Waiting, TARGET};

impl Sink<'_> {
    /// A sink whose chunks wait until [`Self::place`] says where they go.
    pub fn waiting(self) -> Result<Self> {
        let waiting = match self.form {
            Form::Loose => None,
            Form::Packs { .. } => Some(Waiting::new(self.staging.scratch()?)),
        };
        Ok(Sink { waiting, ..self })
    }

    /// Puts those of `all` chunks that are `first` into packs of their own, in that order, and then the others in
    /// theirs. Packs of the layout that have some of the first ones among others are not used: a reader may take a
    /// chunk from any pack of its image. Chunks that wait and are not among `all` are nowhere.
    pub fn place(&mut self, first: &[Digest], all: impl Iterator<Item = Digest>) -> Result<()> {
        let (Form::Packs { target }, Some(waiting)) = (self.form, self.waiting.take()) else {
            return Ok(());
        };
        let wanted: HashSet<Digest> = first.iter().copied().collect();
        let mixed = self.mixed(&wanted);
        for digest in first {
            self.move_one(digest, &waiting, &mixed, TARGET.max(target))?;
        }
        self.close()?;
        for digest in all {
            self.move_one(&digest, &waiting, &mixed, target)?;
        }
        self.homes.chunks.retain(|_, home| *home != Home::Waiting);
        Ok(())
    }

    fn move_one(
        &mut self,
        digest: &Digest,
        waiting: &Waiting,
        mixed: &HashSet<u32>,
        target: u64,
    ) -> Result<()> {
        let chunk = match self.homes.chunks.get(digest) {
            Some(Home::Waiting) => waiting.read(digest)?,
            Some(Home::Held(pack)) if mixed.contains(pack) => self.homes.held.read(digest)?,
            _ => return Ok(()),
        };
        self.pack(*digest, &chunk, target)
    }

    /// Packs of the layout that have some of these chunks, and of others more than a quarter of that.
    fn mixed(&self, first: &HashSet<Digest>) -> HashSet<u32> {
        let mut packs: HashMap<u32, (u64, u64)> = HashMap::new();
        for place in self.homes.held.table() {
            let (some, others) = packs.entry(place.pack).or_default();
            let is_first = first.contains(&place.digest);
            *(if is_first { some } else { others }) += u64::from(place.size);
        }
        let mixed = packs.into_iter();
        let mixed = mixed.filter(|(_, (some, others))| is_mixed(*some, *others));
        mixed.map(|(pack, _)| pack).collect()
    }
}
