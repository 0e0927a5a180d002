// SPDX-License-Identifier: Apache-2.0
//! Putting the chunks of images into packs, and taking them out again. A Rootfs says nothing of
//! where chunks lie, so only manifests change: new ones are written beside the old, and then
//! index.json is replaced, once for all images. What the old ones need stays for gc, and new ones
//! say how to make them again (`origin`).

use std::collections::{HashMap, HashSet};

use puzzlefs_format::Digest;

use super::images::Images;
pub use super::images::{Converted, Report};
pub use super::origin::Origin;
use super::{keep, order};
use crate::base::error::Result;
use crate::base::progress::{Progress, Unit};
use crate::chunks::codec::Codec;
use crate::chunks::places::Places;
use crate::chunks::sink::{Form, Sink};
use crate::image::chunk::Key;
use crate::image::Image;
use crate::layout::reference::Name;
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::profile::Profile;

/// Puts the chunks of images into packs of some `target` bytes.
///
/// Packs that are there stay in use if the images use all of them but `max_unused` hundredths,
/// or if an image that is not to be converted needs them. Small ones are put together. What images list as read first
/// goes side by side.
pub fn repack(
    layout: &Layout,
    tags: &[Name],
    target: u64,
    max_unused: u8,
    progress: &dyn Progress,
) -> Result<Report> {
    repack_by(layout, tags, target, max_unused, None, progress)
}

/// The same, with what a profile names side by side; the images list it from now on.
pub fn repack_by(
    layout: &Layout,
    tags: &[Name],
    target: u64,
    max_unused: u8,
    profile: Option<&Profile>,
    progress: &dyn Progress,
) -> Result<Report> {
    let _kept = layout.keep_blobs(progress)?;
    let mut images = Images::new(layout, tags)?;
    let mut first = HashMap::new();
    for (manifest, _) in &images.list {
        let image = images.open(manifest)?;
        first.insert(*manifest, order::first(&image, profile, progress)?);
    }
    let all: HashSet<Digest> = first.values().flatten().copied().collect();
    let kept = keep::packs(&images, target, max_unused, &all)?;
    let (held, faults) = Places::open(layout, kept);
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault.into());
    }
    let staging = Staging::new(layout)?;
    let form = Form::Packs { target };
    let mut sink = Sink::new(&staging, form, held, progress).repacking();
    progress.phase(
        "packing images",
        u64::try_from(images.list.len())?,
        Unit::Items,
    );
    let orders = images.convert(progress, |image| {
        let first = &first[image.manifest_digest()];
        Ok(feed(image, first, &mut sink)?.map(|order| (order, *image.manifest_digest())))
    })?;
    let homes = sink.finish()?;
    let layers = orders.into_iter().map(|(chunks, manifest)| {
        let mut layers = homes.layers(chunks)?;
        if profile.is_some() {
            order::list(&first[&manifest], &staging, &mut layers)?;
        }
        anyhow::Ok(layers)
    });
    let layers = layers.collect::<anyhow::Result<_>>()?;
    let mut stored = homes.stored();
    drop(homes);
    stored.extend(keep::elsewhere(&images)?);
    Ok(images.write(staging, layers, &stored, progress)?)
}

/// Makes each chunk of images a blob of its own, as upstream has it.
pub fn unpack(layout: &Layout, tags: &[Name], progress: &dyn Progress) -> Result<Report> {
    let _kept = layout.keep_blobs(progress)?;
    let mut images = Images::new(layout, tags)?;
    let staging = Staging::new(layout)?;
    progress.phase(
        "unpacking images",
        u64::try_from(images.list.len())?,
        Unit::Items,
    );
    let mut stored = HashSet::new();
    let layers = images.convert(progress, |image| {
        let (nothing, _) = Places::open(layout, []);
        let mut sink = Sink::new(&staging, Form::Loose, nothing, progress);
        Ok(match feed(image, &[], &mut sink)? {
            Ok(order) => {
                let homes = sink.finish()?;
                stored.extend(homes.stored());
                Ok(homes.layers(order)?)
            }
            Err(fault) => Err(fault),
        })
    })?;
    stored.extend(keep::elsewhere(&images)?);
    Ok(images.write(staging, layers, &stored, progress)?)
}

/// Gives the blocks and the chunks of an image to `sink`, those that are read `first` apart; returns them in order of first
/// use, or why the image cannot be read.
fn feed(
    image: &Image,
    first: &[Digest],
    sink: &mut Sink<'_>,
) -> anyhow::Result<anyhow::Result<Vec<Digest>>> {
    let read = || anyhow::Ok((image.sound_places()?, image.chunks()?));
    let (places, chunks) = match read() {
        Ok(read) => read,
        Err(fault) => return Ok(Err(fault)),
    };
    let put = |sink: &mut Sink<'_>, chunks: &[Key]| -> anyhow::Result<anyhow::Result<()>> {
        for (digest, compressed) in chunks {
            if !sink.has(digest) {
                let stored = match places.read(digest) {
                    Ok(stored) => stored,
                    Err(fault) => return Ok(Err(fault)),
                };
                let codec = Codec::of(&stored, *compressed);
                sink.put(*digest, codec.media_type(), &stored)?;
            }
        }
        Ok(Ok(()))
    };
    let blocks = image.blocks();
    if let Err(fault) = sink.apart(|sink| put(sink, blocks))? {
        return Ok(Err(fault));
    }
    let keys: HashMap<Digest, Key> = chunks.iter().map(|key| (key.0, *key)).collect();
    let first: Vec<Key> = first
        .iter()
        .filter_map(|chunk| keys.get(chunk).copied())
        .collect();
    if let Err(fault) = sink.first(|sink| put(sink, &first))? {
        return Ok(Err(fault));
    }
    let all = blocks.iter().chain(&first).chain(&chunks);
    let order = all.map(|(digest, _)| *digest).collect();
    Ok(put(sink, &chunks)?.map(|()| order))
}
