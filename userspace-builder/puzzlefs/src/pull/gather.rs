// SPDX-License-Identifier: Apache-2.0
//! Seeing to it that the layout has some chunks: what it has not is fetched.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use puzzlefs_format::{limits, Digest, PackEntry};
use sha2::{Digest as _, Sha256};

use super::blobs::{Blobs, Listed, Pack};
use super::fetch::fetch;
use super::local;
use super::parallel::parallel;
use super::plan::{plan, wanted_bytes};
use super::report::Report;
use super::source::{Source, Watch};
use crate::base::error::Error;
use crate::base::progress::{Progress, Unit};
use crate::cache::packs::Sound;
use crate::chunks::codec::Codec;
use crate::chunks::compose::{keep_ends, packs_in};
use crate::chunks::pack::{end_of, DEFAULT_TARGET};
use crate::chunks::places::Places;
use crate::chunks::sink::{Form, Sink};
use crate::image::chunk::Key;
use crate::layout::manifest::Descriptor;
use crate::layout::staging::Staging;
use crate::layout::Layout;

/// Of a pack that is fetched as a whole so many in so many bytes are needed, at least.
const USED: (u64, u64) = (7, 8);

/// Brings chunks into a layout.
pub struct Gather<'a> {
    staging: &'a Staging<'a>,
    source: &'a Source<'a>,
    blobs: Blobs,
    progress: &'a dyn Progress,
    /// Packs of the layout that were found to be sound before.
    known: &'a Sound,
    /// And now, with their fs-verity digests.
    sound: HashMap<Digest, [u8; 32]>,
    /// Those that are not.
    distrusted: HashSet<Digest>,
    /// Chunks that came in blobs that the source has, too.
    fetched: HashSet<Digest>,
    report: Report,
}

impl<'a> Gather<'a> {
    /// Nothing was fetched yet.
    pub fn new(
        staging: &'a Staging<'a>,
        source: &'a Source<'a>,
        blobs: Blobs,
        known: &'a Sound,
        progress: &'a dyn Progress,
    ) -> Self {
        let sound = blobs.packs.iter();
        let sound = sound.filter_map(|pack| Some((pack.digest, pack.here?)));
        Gather {
            staging,
            source,
            known,
            sound: sound.collect(),
            distrusted: HashSet::new(),
            blobs,
            progress,
            fetched: HashSet::new(),
            report: Report::default(),
        }
    }

    /// The Rootfs of the image.
    pub fn rootfs(&self) -> &Digest {
        &self.blobs.rootfs
    }

    /// Sees to it that the layout has the chunks `need`; returns the layers that have them. A chunk that
    /// was there is read and checked before it is relied on.
    pub fn gather(&mut self, need: &[Key], what: &str) -> Result<Vec<Descriptor>> {
        let needed: HashSet<Digest> = need.iter().map(|(digest, _)| *digest).collect();
        self.fetch_whole(&needed)?;
        let layout = self.staging.layout();
        let all = self.places()?;
        self.fetch_loose(&needed, &all)?;
        let first = self.blobs.packs.iter().filter(|pack| pack.here.is_some());
        let first = first.map(|pack| pack.digest).collect();
        let chosen = local::choose(&all, &needed, &first);
        let (held, _) = Places::open(layout, chosen);
        let mut vouched = self.known.among(&held)?;
        let sound = held.packs().iter().zip(0..);
        vouched.extend(sound.filter_map(|(pack, i)| Some((i, *self.sound.get(&pack.digest)?))));
        let target = DEFAULT_TARGET;
        let mut sink = Sink::new(self.staging, Form::Packs { target }, held, self.progress);
        sink.vouched(vouched);
        sink.trust(needed.iter().copied())?;

        let missing = self.adopt(&mut sink, need)?;
        let fetched = self.fetch_missing(&mut sink, need, &missing, what);
        // What came stays, also if not all did: the next pull finds it.
        let homes = sink.finish()?;
        self.staging.commit()?;
        fetched?;
        self.sound.extend(homes.vouched());
        self.distrusted.extend(homes.distrusted());
        homes.layers(need.iter().map(|(digest, _)| *digest))
    }

    /// What the packs of the layout have, but for those that are known to be damaged.
    fn places(&self) -> Result<Places<'a>> {
        let layout = self.staging.layout();
        let is_bad = |pack: &Pack| pack.here.is_none();
        let bad = self.blobs.packs.iter().filter(|pack| is_bad(pack));
        let bad: HashSet<Digest> = bad.map(|pack| pack.digest).collect();
        let packs = packs_in(layout)?.into_iter();
        // What is wrong with packs that nobody asked for does not matter.
        Ok(Places::open(layout, packs.filter(|pack| !bad.contains(pack))).0)
    }

    /// Fetches those packs as a whole of which the layout has nothing, and the image needs most.
    fn fetch_whole(&mut self, needed: &HashSet<Digest>) -> Result<()> {
        let layout = self.staging.layout();
        let all = self.places()?;
        let bytes = wanted_bytes(&self.blobs.packs, needed);
        let is_there = |entry: &PackEntry| -> Result<bool> {
            Ok(!all.of(&entry.digest).is_empty() || layout.names_blob(&entry.digest)?)
        };
        let mut fresh = Vec::new();
        for (number, pack) in self.blobs.packs.iter().enumerate() {
            let (Some(end), None) = (&pack.end, pack.here) else {
                continue;
            };
            let mut of_none = true;
            let mut lacks = false;
            for entry in &end.entries {
                let is_there = is_there(entry)?;
                of_none &= !is_there;
                lacks |= !is_there && needed.contains(&entry.digest);
            }
            let is_used = bytes[&number] * USED.1 >= end.start * USED.0;
            // Nobody could put one with gaps together.
            if lacks && (of_none && is_used || !end.is_dense()) {
                fresh.push(number);
            }
        }
        let total = fresh.iter().map(|number| self.blobs.packs[*number].size);
        self.progress
            .phase("fetching packs", total.sum(), Unit::Bytes);
        let packs = &self.blobs.packs;
        let fetched = parallel(&fresh, |number| self.whole(&packs[*number]))?;
        for (number, verity) in fresh.into_iter().zip(fetched) {
            let pack = &mut self.blobs.packs[number];
            pack.here = Some(verity);
            pack.check_said()?;
            self.sound.insert(pack.digest, verity);
            let entries = pack.end.iter().flat_map(|end| &end.entries);
            for entry in entries {
                self.report.chunks_fetched += 1;
                self.report.chunk_bytes_fetched += u64::from(entry.size);
                self.fetched.insert(entry.digest);
            }
        }
        Ok(())
    }

    /// Fetches a pack, checks all its chunks, and gives it its name.
    fn whole(&self, pack: &Pack) -> Result<[u8; 32]> {
        let entries = pack.end.as_ref().map_or(&[][..], |end| &end.entries);
        let chunks = || Chunks {
            entries,
            at: 0,
            hash: Sha256::new(),
            progress: self.progress,
        };
        let staged = self
            .source
            .stage(self.staging, &pack.digest, pack.size, chunks)?;
        self.staging.commit()?;
        staged.verity.context("a pack that was not measured")
    }

    /// Fetches loose chunks that are nowhere.
    fn fetch_loose(&mut self, needed: &HashSet<Digest>, all: &Places<'_>) -> Result<()> {
        let layout = self.staging.layout();
        let packed = self.blobs.packs.iter().flat_map(|pack| &pack.end);
        let packed: HashSet<Digest> = packed
            .flat_map(|end| &end.entries)
            .map(|entry| entry.digest)
            .collect();
        let mut wanted: Vec<&Listed> = Vec::new();
        for chunk in self.blobs.loose.values() {
            let digest = &chunk.digest;
            let is_wanted = needed.contains(digest) && !packed.contains(digest);
            let size = layout.blob_size(digest)?.unwrap_or(0);
            if is_wanted && all.of(digest).is_empty() && !layout.has_blob(digest, size)? {
                wanted.push(chunk);
            }
        }
        let count = wanted.len() as u64;
        self.progress.phase("fetching chunks", count, Unit::Items);
        let sizes = parallel(&wanted, |chunk| {
            let limit = limits::MAX_CHUNK_BYTES;
            // The size that upstream writes is another one.
            let bytes = self.source.text(&chunk.digest, chunk.size, limit)?;
            self.staging.put(&chunk.digest, &bytes)?;
            self.progress.advance(1);
            Ok(bytes.len() as u64)
        })?;
        for (chunk, bytes) in wanted.iter().zip(sizes) {
            self.report.chunks_fetched += 1;
            self.report.chunk_bytes_fetched += bytes;
            self.fetched.insert(chunk.digest);
        }
        self.staging.commit()?;
        Ok(())
    }

    /// Lets the sink take what the layout has; returns the rest.
    fn adopt(&mut self, sink: &mut Sink<'_>, need: &[Key]) -> Result<Vec<Digest>> {
        let layout = self.staging.layout();
        let held = sink.places();
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        for key in need {
            let digest = &key.0;
            if !seen.insert(*digest) {
                continue;
            }
            let packed = held.of(digest).iter().map(|place| u64::from(place.size));
            let mut sizes: Vec<u64> = packed.collect();
            let is_loose = sizes.is_empty();
            if is_loose {
                sizes.extend(layout.blob_size(digest)?);
            }
            let mut size = None;
            for candidate in sizes {
                if size.is_none() && sink.can_adopt(digest, candidate)? {
                    size = Some(candidate);
                }
            }
            let Some(size) = size else {
                missing.push(*digest);
                continue;
            };
            let kind = match is_loose {
                true => media_type(layout, key)?,
                false => Codec::Raw.media_type(),
            };
            sink.adopt(*digest, kind, size)?;
            if !self.fetched.contains(digest) {
                self.report.chunks_found += 1;
                self.report.chunk_bytes_found += size;
            }
        }
        Ok(missing)
    }

    fn fetch_missing(
        &mut self,
        sink: &mut Sink<'_>,
        need: &[Key],
        missing: &[Digest],
        what: &str,
    ) -> Result<()> {
        let plan = plan(&self.blobs.packs, missing)?;
        let compressed: HashMap<Digest, bool> = need.iter().copied().collect();
        let total = plan.iter().map(|span| span.end() - span.start()).sum();
        let found = self.report.chunk_bytes_found;
        let phase = format!("{what}, {} MB not needed", found / 1_000_000);
        self.progress.phase(&phase, total, Unit::Bytes);
        let (staging, report, progress) = (self.staging, &mut self.report, self.progress);
        fetch(self.source, &self.blobs.packs, &plan, |batch| {
            for (digest, bytes) in batch.chunks() {
                let is_compressed = compressed.get(&digest).copied().unwrap_or(false);
                let kind = Codec::of(bytes, is_compressed).media_type();
                sink.put(digest, kind, bytes)?;
                report.chunks_fetched += 1;
                report.chunk_bytes_fetched += bytes.len() as u64;
            }
            progress.advance(batch.len());
            // A pack that is full is there for good.
            if !staging.is_empty() {
                staging.commit()?;
            }
            Ok(())
        })
    }

    /// Whether the layout has all that the manifest of the source lists.
    pub fn is_complete(&mut self) -> Result<bool> {
        let layout = self.staging.layout();
        let mut is_complete = self.blobs.packs.iter().all(|pack| pack.here.is_some());
        for chunk in self.blobs.loose.values() {
            let size = layout.blob_size(&chunk.digest)?;
            is_complete = is_complete
                && match size {
                    Some(size) => layout.has_blob(&chunk.digest, size)?,
                    None => false,
                };
        }
        Ok(is_complete)
    }

    /// The packs of the layout that this image relies on, with their fs-verity digests; and those that were
    /// found to be something else than they say.
    pub fn sound(&self) -> (HashMap<Digest, [u8; 32]>, HashSet<Digest>) {
        (self.sound.clone(), self.distrusted.clone())
    }

    /// The blob that keeps the ends of all packs.
    pub fn ends(&self) -> Vec<u8> {
        keep_ends(self.blobs.packs.iter().flat_map(|pack| &pack.end))
    }

    /// What was done. The layout has `manifest`, or `local` that stands for it.
    pub fn report(self, manifest: &Digest, local: &Digest, complete: bool) -> Result<Report> {
        let added = self.staging.commit()?;
        Ok(Report {
            manifest: manifest.to_string(),
            local_manifest: local.to_string(),
            complete,
            requests: self.source.requests.load(Ordering::Relaxed),
            bytes_fetched: self.source.bytes.load(Ordering::Relaxed),
            new_blobs: added.blobs,
            new_bytes: added.bytes,
            ..self.report
        })
    }
}

/// Checks the chunks of a pack as it passes by.
struct Chunks<'a> {
    /// What is still to come, in order of the offsets.
    entries: &'a [PackEntry],
    at: u64,
    hash: Sha256,
    progress: &'a dyn Progress,
}

impl Watch for Chunks<'_> {
    fn see(&mut self, bytes: &[u8]) -> Result<()> {
        self.progress.advance(bytes.len() as u64);
        let mut rest = bytes;
        while let Some((entry, later)) = self.entries.split_first() {
            let before = u64::from(entry.offset).saturating_sub(self.at);
            let skipped = usize::try_from(before)?.min(rest.len());
            let left = usize::try_from(end_of(entry) - self.at - skipped as u64)?;
            let taken = left.min(rest.len() - skipped);
            self.hash.update(&rest[skipped..skipped + taken]);
            self.at += (skipped + taken) as u64;
            rest = &rest[skipped + taken..];
            if self.at < end_of(entry) {
                return Ok(());
            }
            let found = Digest::from_bytes(self.hash.finalize_reset().into());
            if found != entry.digest {
                let digest = &entry.digest;
                let text = format!("the chunk sha256:{digest} is not where its pack's index says");
                return Err(Error::damaged(text).of(digest).into());
            }
            self.entries = later;
        }
        Ok(())
    }
}

/// The media type of a chunk that is loose in a layout.
fn media_type(layout: &Layout, (digest, compressed): &Key) -> Result<&'static str> {
    let stored = match compressed {
        false => Vec::new(),
        true => layout.read_blob(digest, limits::MAX_CHUNK_BYTES)?,
    };
    Ok(Codec::of(&stored, *compressed).media_type())
}
