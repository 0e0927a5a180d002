// SPDX-License-Identifier: Apache-2.0
//! Putting the chunks of images into packs, and taking them out again. A Rootfs says nothing of
//! where chunks lie, so only manifests change: new ones are written beside the old, and then
//! index.json is replaced, once for all images. What the old ones need stays for gc.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use puzzlefs_format::Digest;
use serde::Serialize;

use super::keep;
use crate::base::progress::{Progress, Unit};
use crate::chunks::places::Places;
use crate::chunks::sink::{Form, Sink};
use crate::encode::compress::Codec;
use crate::image::chunk::Key;
use crate::image::Image;
use crate::layout::manifest::{self, Descriptor};
use crate::layout::staging::Staging;
use crate::layout::Layout;

/// What became of the images.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Each.
    pub images: Vec<Converted>,
    /// Blobs that the layout did not have before.
    pub new_blobs: u64,
    /// Bytes of those.
    pub new_bytes: u64,
}

/// What became of an image.
#[derive(Clone, Debug, Serialize)]
pub struct Converted {
    /// Its tags.
    pub tags: Vec<String>,
    /// Digest of its manifest before, in hexadecimal.
    pub old_manifest: String,
    /// Digest of its manifest now: the same if nothing was to be done.
    pub manifest: String,
}

/// Puts the chunks of images into packs of some `target` bytes.
///
/// Packs that are there stay in use if the images use all of them but `max_unused` hundredths,
/// or if an image that is not to be converted needs them. Small ones are put together.
pub fn repack(
    layout: &Layout,
    tags: &[String],
    target: u64,
    max_unused: u8,
    progress: &dyn Progress,
) -> Result<Report> {
    let _kept = layout.keep_blobs(progress)?;
    let images = Images::new(layout, tags)?;
    let kept = keep::packs(&images, target, max_unused)?;
    let (held, faults) = Places::open(layout, kept);
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    let staging = Staging::new(layout)?;
    let form = Form::Packs { target };
    let mut sink = Sink::new(&staging, form, held, progress).repacking();
    progress.phase(
        "packing images",
        u64::try_from(images.list.len())?,
        Unit::Items,
    );
    let mut orders = Vec::new();
    for (manifest, _) in &images.list {
        let image = images.open(manifest)?;
        orders.push(feed(&image, &mut sink)?);
        progress.advance(1);
    }
    let homes = sink.finish()?;
    let layers = orders.into_iter().map(|order| homes.layers(order));
    let layers = layers.collect::<Result<_>>()?;
    images.write(staging, layers, progress)
}

/// Makes each chunk of images a blob of its own, as upstream has it.
pub fn unpack(layout: &Layout, tags: &[String], progress: &dyn Progress) -> Result<Report> {
    let _kept = layout.keep_blobs(progress)?;
    let images = Images::new(layout, tags)?;
    let staging = Staging::new(layout)?;
    let mut layers = Vec::new();
    progress.phase(
        "unpacking images",
        u64::try_from(images.list.len())?,
        Unit::Items,
    );
    for (manifest, names) in &images.list {
        let image = images.open(manifest)?;
        let (nothing, _) = Places::open(layout, []);
        let mut sink = Sink::new(&staging, Form::Loose, nothing, progress);
        let order = feed(&image, &mut sink).with_context(|| names.join(", "))?;
        layers.push(sink.finish()?.layers(order)?);
        progress.advance(1);
    }
    images.write(staging, layers, progress)
}

/// The images to convert.
pub(super) struct Images<'a> {
    pub(super) layout: &'a Layout,
    /// Their manifests, in order of index.json, with their tags.
    pub(super) list: Vec<(Digest, Vec<String>)>,
    /// What the other entries of index.json name.
    pub(super) others: HashSet<Digest>,
}

impl<'a> Images<'a> {
    /// Those that `tags` name; all if it is empty.
    fn new(layout: &'a Layout, tags: &[String]) -> Result<Self> {
        tags.iter()
            .try_for_each(|tag| layout.resolve(tag).map(drop))?;
        let mut list: Vec<(Digest, Vec<String>)> = Vec::new();
        let mut others = HashSet::new();
        for (manifest, tag) in layout.manifests()? {
            let wanted = tag.as_ref().is_some_and(|tag| tags.contains(tag));
            if !(wanted || tags.is_empty() && Image::is_there(layout, &manifest)?) {
                others.insert(manifest);
                continue;
            }
            match list.iter_mut().find(|(known, _)| *known == manifest) {
                Some((_, names)) => names.extend(tag),
                None => list.push((manifest, tag.into_iter().collect())),
            }
        }
        Ok(Images {
            layout,
            list,
            others,
        })
    }

    pub(super) fn open(&self, manifest: &Digest) -> Result<Image> {
        Image::with_manifest(self.layout, manifest)?
            .with_context(|| format!("the manifest sha256:{manifest} is no PuzzleFS image"))
    }

    /// Writes the manifests with their new `layers`, and lets index.json name them.
    fn write(
        &self,
        staging: Staging<'_>,
        layers: Vec<Vec<Descriptor>>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let mut report = Report::default();
        let mut new = HashMap::new();
        for ((old, tags), layers) in self.list.iter().zip(&layers) {
            let text = self.layout.read_blob(old, u64::MAX)?;
            let text = manifest::with_layers(&text, layers)?;
            let blob = staging.put_with(|out| Ok(out.write_all(&text)?))?;
            new.insert(*old, (blob.digest, blob.size));
            report.images.push(Converted {
                tags: tags.clone(),
                old_manifest: old.to_string(),
                manifest: blob.digest.to_string(),
            });
        }
        progress.phase("syncing to disk", 0, Unit::Items);
        let added = staging.commit()?;
        (report.new_blobs, report.new_bytes) = (added.blobs, added.bytes);
        // A tag that names something else by now stays as it is.
        self.layout.replace(|old, tag| {
            let (_, tags) = self.list.iter().find(|(manifest, _)| manifest == old)?;
            let wanted = tag.is_none_or(|tag| tags.iter().any(|t| t == tag));
            wanted.then(|| new[old])
        })?;
        Ok(report)
    }
}

/// Gives the blocks and the chunks of an image to `sink`; returns them in order of first use.
fn feed(image: &Image, sink: &mut Sink<'_>) -> Result<Vec<Digest>> {
    let places = image.sound_places()?;
    let put = |sink: &mut Sink<'_>, chunks: &[Key]| {
        for (digest, compressed) in chunks {
            if !sink.has(digest) {
                let stored = places.read(digest)?;
                let codec = Codec::of(&stored, *compressed);
                sink.put(*digest, codec.media_type(), &stored)?;
            }
        }
        Ok(())
    };
    let (blocks, chunks) = (image.blocks(), image.chunks()?);
    sink.apart(|sink| put(sink, blocks))?;
    put(sink, &chunks)?;
    let all = blocks.iter().chain(&chunks);
    Ok(all.map(|(digest, _)| *digest).collect())
}
