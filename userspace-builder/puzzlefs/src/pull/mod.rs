// SPDX-License-Identifier: Apache-2.0
//! Bringing an image from somewhere else into a layout: only the chunks that this does not have.
//!
//! - this file: all steps, in order;
//! - `find`: which manifest it is; `source`: who is asked, and what was asked;
//! - `blobs`: what the manifest lists, and what of it is here;
//! - `gather`: seeing to it that the layout has some chunks; `local`: which packs of it have them;
//! - `plan`: which bytes to ask for; `fetch`: asking for them, `parallel`: several at once;
//! - `lazy`: only the metadata come;
//! - [`complete`]: the blobs of the manifest itself, put together from chunks;
//! - [`peek`]: an image is only looked at; `report`: what was done.

mod blobs;
pub mod complete;
mod fetch;
mod find;
mod gather;
mod lazy;
mod local;
mod parallel;
pub mod peek;
mod plan;
mod report;
mod source;

use std::collections::HashSet;
use std::thread;

use anyhow::{Context, Result};
use puzzlefs_format::Digest;

use crate::base::progress::{Progress, Unit};
use crate::cache::packs::{packs_of, Sound};
use crate::cache::{self, Cache};
use crate::image::Image;
use crate::layout::manifest::{self, Descriptor, EMPTY_CONFIG};
use crate::layout::platform::Platform;
use crate::layout::pulled::Record;
use crate::layout::reference::Name;
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::remote::{Document, Remote};
use blobs::{Blobs, Listed};
use gather::Gather;
use parallel::{join, parallel};
use source::Source;

pub use report::Report;

/// An image somewhere else, of which the manifest is known.
pub struct Found<'a> {
    source: Source<'a>,
    document: Document,
}

/// Asks `remote` for the manifest of an image. Of an index it is that for `platform`.
///
/// # Errors
///
/// If it is not there, is no PuzzleFS image, or has another digest than `name`.
pub fn find<'a>(
    remote: &'a dyn Remote,
    name: &Name,
    platform: &Platform,
) -> crate::Result<Found<'a>> {
    let source = Source::new(remote);
    let document = find::find(&source, name, platform);
    let context = || format!("{} of {}", name, remote.name());
    Ok(Found {
        document: document.with_context(context)?,
        source,
    })
}

impl Found<'_> {
    /// The digest of the manifest.
    pub fn digest(&self) -> &Digest {
        &self.document.digest
    }

    /// Brings all that the image uses into `layout`, and lets `tag` name it. Packs that `cache` knows to be
    /// sound are not read for that.
    ///
    /// # Errors
    ///
    /// The tag stays as it was when anything fails. What was fetched until then stays for the next time,
    /// or for a collection of garbage.
    pub fn pull(
        &self,
        layout: &Layout,
        tag: &str,
        cache: Option<&cache::Options>,
        progress: &dyn Progress,
    ) -> crate::Result<Report> {
        let _kept = layout.keep_blobs(progress)?;
        let staging = Staging::new(layout)?;
        let cache = Cache::open(cache, progress);
        let pulled = self.pull_into(&staging, tag, cache.as_ref(), progress);
        let context = || format!("pulling from {}", self.source.name());
        Ok(pulled.with_context(context)?)
    }

    fn pull_into(
        &self,
        staging: &Staging<'_>,
        tag: &str,
        cache: Option<&Cache>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let layout = staging.layout();
        let known = cache.map(|cache| Sound::load(cache, layout)).transpose()?;
        let known = known.unwrap_or_default();
        let listed = find::parse(&self.document)?;
        let mut blobs = Blobs::new(&listed, &self.document.text, layout, &known, progress)?;
        staging.put(&self.document.digest, &self.document.text)?;
        self.small(&mut blobs, staging, progress)?;

        let mut gather = Gather::new(staging, &self.source, blobs, &known, progress);
        let (blocks, image) = self.metadata(&mut gather, staging)?;
        progress.phase("reading metadata", 0, Unit::Items);
        let chunks = image.chunks()?;
        drop(image);
        let mut layers = blocks;
        layers.extend(gather.gather(&chunks, "fetching")?);
        let mut seen = HashSet::new();
        layers.retain(|layer| seen.insert(layer.digest));
        let (sound, distrusted) = gather.sound();
        let report = self.finish(gather, &layers, tag, staging, progress)?;
        if let Some(cache) = cache {
            let packs = sound.into_iter().chain(packs_of(&layers));
            cache.keep(progress, |cache| {
                known.save(cache, layout, packs, &distrusted)
            });
        }
        Ok(report)
    }

    /// Fetches what has to be here before anything else can be asked for: the config, the Rootfs and what is neither
    /// pack nor chunk, and beside them the ends of packs.
    fn small(
        &self,
        blobs: &mut Blobs,
        staging: &Staging<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let others = blobs.others.clone();
        thread::scope(|scope| {
            let documents =
                scope.spawn(|| parallel(&others, |other| self.document(other, staging)));
            let ends = blobs.ends(&self.source, staging, progress);
            join(documents)?;
            ends
        })?;
        staging.commit()?;
        Ok(())
    }

    /// Fetches a small blob as a whole, if it is not here.
    fn document(&self, blob: &Listed, staging: &Staging<'_>) -> Result<()> {
        if blob.digest == crate::base::digest::sha256(&[EMPTY_CONFIG]) {
            staging.put(&blob.digest, EMPTY_CONFIG)?;
        } else if !staging.layout().has_blob(&blob.digest, blob.size)? {
            self.source.stage(staging, &blob.digest, blob.size, || ())?;
        }
        Ok(())
    }

    /// Sees to it that the metadata are here; returns the layers with them, and the image.
    fn metadata(
        &self,
        gather: &mut Gather<'_>,
        staging: &Staging<'_>,
    ) -> Result<(Vec<Descriptor>, Image)> {
        let blocks = Image::blocks_of(staging.layout(), gather.rootfs())?;
        let layers = gather.gather(&blocks, "fetching metadata")?;
        let text = manifest::with_layers(&self.document.text, &layers)?;
        let image = Image::of_text(staging.layout(), text)?;
        Ok((layers, image))
    }

    /// Writes the manifest, or one that stands for it, and lets the tag name it.
    fn finish(
        &self,
        mut gather: Gather<'_>,
        layers: &[Descriptor],
        tag: &str,
        staging: &Staging<'_>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let layout = staging.layout();
        let is_complete = gather.is_complete()?;
        let Document { digest, text, .. } = &self.document;
        let mut named = (*digest, text.len() as u64);
        if !is_complete {
            let ends = gather.ends();
            let indexes = staging.put_with(|out| Ok(out.write_all(&ends)?))?;
            let record = Record {
                manifest: *digest,
                indexes: indexes.digest,
            };
            let local = manifest::with_layers(text, layers)?;
            let local = record.add_to(&local)?;
            let blob = staging.put_with(|out| Ok(out.write_all(&local)?))?;
            named = (blob.digest, blob.size);
        }
        progress.phase("syncing to disk", 0, Unit::Items);
        if !staging.is_empty() || !layout.has_tag(tag, &named.0, named.1)? {
            staging.commit()?;
            layout.set_tag(tag, &named.0, named.1)?;
        }
        gather.report(&self.document.digest, &named.0, is_complete)
    }
}
