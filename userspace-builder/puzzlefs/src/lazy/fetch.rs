// SPDX-License-Identifier: Apache-2.0
//! Bytes of other packs, or of a source, become chunks of a pack, each checked before it is written.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

use anyhow::{ensure, Context};
use puzzlefs_format::limits;

use super::counts::{Counts, NODE};
use super::neighbours::{IsHere, Neighbours};
use super::origins::{Origins, Source};
use super::pace::is_full;
use super::pack::Pack;
use crate::base::error::{Error, Result, Where};
use crate::chunks::pack::end_of;
use crate::remote::Part;

/// Bytes between two chunks that are missing which are fetched although they are there: that takes no longer than one
/// more request.
const SMALL_GAP: u64 = 32 << 10;

/// Where chunks come from.
pub struct Supply<'a> {
    /// Other packs of this node, which come first.
    pub neighbours: Neighbours<'a>,
    /// Sources, one after the other.
    pub origins: Origins,
    /// What came.
    pub counts: Counts,
}

/// Who is told what happens.
pub struct Told<'a> {
    /// A chunk was written, by its number: others too than were asked for, where a source gives whole packs only.
    pub here: &'a mut dyn FnMut(usize),
    /// A source failed, and the next one is asked.
    pub trouble: &'a mut dyn FnMut(Error),
    /// Bytes of chunks that sources gave.
    pub fetched: u64,
}

impl Supply<'_> {
    /// Brings the chunks of these numbers, from other packs as far as `is_here` says that they have them, and else from
    /// the first source that gives them.
    ///
    /// # Errors
    ///
    /// What the last source said, if none gives them all. Those that are told of are there.
    pub fn fetch(
        &self,
        pack: &Pack,
        chunks: Range<usize>,
        is_here: &IsHere<'_>,
        told: &mut Told<'_>,
    ) -> Result<()> {
        let mut copied = HashSet::new();
        for (number, bytes) in self.neighbours.find(pack, chunks.clone(), is_here) {
            pack.write(number, &bytes)?;
            self.counts.came(NODE, bytes.len() as u64);
            copied.insert(number);
            (told.here)(number);
        }
        for run in runs(pack, chunks, &copied) {
            self.fetch_run(pack, run, &copied, told)?;
        }
        Ok(())
    }

    fn fetch_run(
        &self,
        pack: &Pack,
        chunks: Range<usize>,
        copied: &HashSet<usize>,
        told: &mut Told<'_>,
    ) -> Result<()> {
        let mut left = chunks;
        let mut why = None;
        for name in self.origins.order(&pack.digest, &pack.sources) {
            let mut next = left.start;
            let fetched = &mut told.fetched;
            let mut here = |chunk: usize| {
                next = next.max(chunk + 1);
                *fetched += pack.chunk(chunk).map_or(0, |it| it.size.into());
                (told.here)(chunk);
            };
            match self.fetch_from(&name, pack, &left, copied, &mut here) {
                Ok(()) => return Ok(()),
                // That is not the source's fault.
                Err(error) if is_full(&error) => return Err(error),
                Err(error) => {
                    self.origins.fails(&name, &pack.digest);
                    left.start = next.min(left.end);
                    let chunk = pack.chunk(left.start).map(|chunk| chunk.digest);
                    let chunk =
                        chunk.map_or_else(String::new, |it| format!("the chunk sha256:{it} of "));
                    let error = error.context(format!(
                        "{chunk}the pack sha256:{} from {name}",
                        pack.digest
                    ));
                    if let Some(before) = why.replace(error) {
                        (told.trouble)(before);
                    }
                }
            }
        }
        let none = || {
            let text = format!(
                "the record of the pack sha256:{} names no source",
                pack.digest
            );
            Error::not_found(text)
        };
        Err(why.unwrap_or_else(none))
    }

    fn fetch_from(
        &self,
        name: &str,
        pack: &Pack,
        chunks: &Range<usize>,
        copied: &HashSet<usize>,
        here: &mut dyn FnMut(usize),
    ) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let source = self.origins.get(name)?;
        self.counts.asked(source.kind);
        let got = self.range(&source, pack, chunks, copied, here);
        if got.is_err() {
            self.counts.failed(source.kind);
        }
        got.of(&pack.digest)
    }

    fn range(
        &self,
        source: &Source,
        pack: &Pack,
        chunks: &Range<usize>,
        copied: &HashSet<usize>,
        here: &mut dyn FnMut(usize),
    ) -> anyhow::Result<()> {
        let first = pack.chunk(chunks.start).context("no chunk")?;
        let last = pack.chunk(chunks.end - 1).context("no chunk")?;
        let wanted = u64::from(first.offset)..end_of(last);
        let remote = &source.remote;
        let (mut body, numbers) = match remote.range(&pack.digest, pack.size, wanted)? {
            Part::Range(body) => (body, chunks.clone()),
            // Whoever gives all is asked once.
            Part::Whole(body) => (body, 0..pack.end.entries.len()),
        };
        // There is nothing between the chunks of a pack that is filled.
        for number in numbers {
            let entry = pack.chunk(number).context("no chunk")?;
            let mut chunk = Vec::new();
            let part = body.by_ref().take(entry.size.into());
            let read = part.take(limits::MAX_CHUNK_BYTES).read_to_end(&mut chunk);
            read.with_context(|| format!("the chunk sha256:{}", entry.digest))?;
            ensure!(
                chunk.len() == entry.size as usize,
                "the answer ends within the chunk sha256:{}",
                entry.digest
            );
            if copied.contains(&number) {
                continue;
            }
            pack.write(number, &chunk)?;
            self.counts.came(source.kind, entry.size.into());
            here(number);
        }
        Ok(())
    }
}

/// What is to be asked for of `chunks`, where some were copied: what is between two of them is asked for as well if it
/// is small.
fn runs(pack: &Pack, chunks: Range<usize>, copied: &HashSet<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for number in chunks.filter(|number| !copied.contains(number)) {
        let gap = |run: &Range<usize>| {
            let sizes = (run.end..number).filter_map(|number| pack.chunk(number));
            sizes.map(|chunk| u64::from(chunk.size)).sum::<u64>()
        };
        match runs.last_mut() {
            Some(run) if gap(run) <= SMALL_GAP => run.end = number + 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}
