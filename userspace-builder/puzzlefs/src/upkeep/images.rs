// SPDX-License-Identifier: Apache-2.0
//! The images of a layout that are to be converted, and their new manifests.

use std::collections::{HashMap, HashSet};

use anyhow::{bail, Context, Error, Result};
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde::Serialize;

use super::origin::{self, Origin};
use crate::base::error::damage;
use crate::base::progress::{Progress, Unit};
use crate::base::text;
use crate::image::Image;
use crate::layout::broken::Broken;
use crate::layout::index::Entry;
use crate::layout::manifest::{self, Descriptor};
use crate::layout::nested::Replaced;
use crate::layout::reference::Name;
use crate::layout::staging::Staging;
use crate::layout::Layout;

/// What became of the images.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Each.
    pub images: Vec<Converted>,
    /// Images that could not be used: they stay as they are.
    #[serde(flatten)]
    pub faults: Broken,
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
    /// What is kept of the manifest that it had when it came here or was made.
    pub origin: Option<Origin>,
}

/// The images to convert.
pub(super) struct Images<'a> {
    pub(super) layout: &'a Layout,
    /// Their manifests, in order of index.json, with their tags.
    pub(super) list: Vec<(Digest, Vec<String>)>,
    /// What the other entries of index.json name.
    pub(super) others: HashSet<Digest>,
    /// Those that cannot be read.
    broken: Vec<Error>,
}

impl<'a> Images<'a> {
    /// Those that `names` are; all if it is empty.
    pub(super) fn new(layout: &'a Layout, names: &[Name]) -> Result<Self> {
        let listed = listed(layout)?;
        let mut named = HashSet::new();
        for name in names {
            // Another one may stand for that which is named.
            let digest = match name {
                Name::Tag(_) => None,
                Name::Digest(_) => Some(layout.resolve(name)?.digest),
            };
            named.extend(digest);
            let is_it = |(manifest, tag): &(Digest, Option<String>)| match name {
                Name::Tag(name) => tag.as_ref() == Some(name),
                Name::Digest(_) => digest == Some(*manifest),
            };
            if !listed.iter().any(is_it) {
                layout.resolve(name)?;
                bail!(
                    "no entry of index.json leads to {name}, so there is no place for another \
                     manifest; give it a tag (puzzlefs tag)"
                );
            }
        }
        let mut list: Vec<(Digest, Vec<String>)> = Vec::new();
        let mut others = HashSet::new();
        for (manifest, tag) in listed {
            let has_tag = |tag: &String| names.contains(&Name::Tag(tag.clone()));
            let wanted = named.contains(&manifest) || tag.as_ref().is_some_and(has_tag);
            if !(wanted || names.is_empty() && !is_foreign(layout, &manifest)) {
                others.insert(manifest);
                continue;
            }
            match list.iter_mut().find(|(known, _)| *known == manifest) {
                Some((_, tags)) => tags.extend(tag),
                None => list.push((manifest, tag.into_iter().collect())),
            }
        }
        let mut images = Images {
            layout,
            list: Vec::new(),
            others,
            broken: Vec::new(),
        };
        for (manifest, tags) in list {
            let chunks = |image: Image| Ok(image.chunks()?);
            match images.open(&manifest).and_then(chunks) {
                Ok(_) => images.list.push((manifest, tags)),
                Err(fault) => images.leave(manifest, &tags, fault),
            }
        }
        images.is_any()?;
        for (manifest, _) in &images.list {
            images.open(manifest)?.ensure_whole()?;
        }
        Ok(images)
    }

    /// Notes that an image cannot be converted.
    fn leave(&mut self, manifest: Digest, tags: &[String], fault: Error) {
        let tags: Vec<_> = tags
            .iter()
            .map(|tag| text::quoted(tag.as_bytes()))
            .collect();
        let what = format!("the image sha256:{manifest} ({})", tags.join(" "));
        self.broken.push(fault.context(what));
        self.others.insert(manifest);
    }

    /// # Errors
    ///
    /// What is wrong with the first image if something is with all.
    fn is_any(&mut self) -> Result<()> {
        match self.list.is_empty() && !self.broken.is_empty() {
            true => Ok(damage(Err(self.broken.swap_remove(0)))?),
            false => Ok(()),
        }
    }

    /// Calls `convert` for each image; leaves those out of the list that cannot be read, for
    /// which it says why.
    pub(super) fn convert<T>(
        &mut self,
        progress: &dyn Progress,
        mut convert: impl FnMut(&Image) -> Result<Result<T>>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for (manifest, tags) in std::mem::take(&mut self.list) {
            match convert(&self.open(&manifest)?)? {
                Ok(converted) => {
                    all.push(converted);
                    self.list.push((manifest, tags));
                }
                Err(fault) => self.leave(manifest, &tags, fault),
            }
            progress.advance(1);
        }
        self.is_any()?;
        Ok(all)
    }

    pub(super) fn open(&self, manifest: &Digest) -> Result<Image> {
        Image::with_manifest(self.layout, manifest)?
            .with_context(|| format!("the manifest sha256:{manifest} is no PuzzleFS image"))
    }

    /// Writes the manifests with their new `layers`, and lets index.json name them. These layers have the
    /// chunks `stored`.
    pub(super) fn write(
        mut self,
        staging: Staging<'_>,
        layers: Vec<Vec<Descriptor>>,
        stored: &HashSet<Digest>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let mut report = Report::default();
        for fault in std::mem::take(&mut self.broken) {
            report.faults.push(fault);
        }
        let mut new = Replaced::new();
        for ((old, tags), layers) in self.list.iter().zip(&layers) {
            let converted = origin::with_layers(old, layers, stored, &staging);
            let context = || format!("the image sha256:{old}");
            let (blob, origin) = converted.with_context(context)?;
            new.insert(*old, blob);
            report.images.push(Converted {
                tags: tags.clone(),
                old_manifest: old.to_string(),
                manifest: blob.0.to_string(),
                origin,
            });
        }
        let indexes = self.indexes(&new, &staging)?;
        progress.phase("syncing to disk", 0, Unit::Items);
        let added = staging.commit()?;
        (report.new_blobs, report.new_bytes) = (added.blobs, added.bytes);
        // A tag that names something else by now stays as it is.
        self.layout.replace(|old, tag| {
            if let Some(index) = indexes.get(old) {
                return Some(*index);
            }
            let (_, tags) = self.list.iter().find(|(manifest, _)| manifest == old)?;
            let wanted = tag.is_none_or(|tag| tags.iter().any(|t| t == tag));
            wanted.then(|| new[old])
        })?;
        Ok(report)
    }

    /// Stores the indexes that list such images, with the new manifests in their place.
    fn indexes(&self, new: &Replaced, staging: &Staging<'_>) -> Result<Replaced> {
        let mut store = |text: &[u8]| {
            manifest::check_size(text)?;
            let blob = staging.put_with(|out| Ok(out.write_all(text)?))?;
            Ok((blob.digest, blob.size))
        };
        let is_it = |tag: &String| self.list.iter().any(|(_, tags)| tags.contains(tag));
        let is_it = |entry: &Entry| entry.tag.as_ref().is_some_and(is_it);
        Ok(self.layout.indexes_with(new, is_it, &mut store)?)
    }
}

/// The manifests that tags lead to, with these, those in indexes too; in order of index.json.
fn listed(layout: &Layout) -> Result<Vec<(Digest, Option<String>)>> {
    let mut listed = Vec::new();
    let (mut seen, mut in_indexes) = (HashSet::new(), HashMap::new());
    for entry in layout.entries()? {
        // Once each, and each index is read once, however often index.json lists it.
        if !seen.insert((entry.digest, entry.tag.clone())) {
            continue;
        }
        if !entry.is_index() {
            if entry.media_type == MEDIA_TYPE_MANIFEST {
                listed.push((entry.digest, entry.tag));
            }
            continue;
        }
        // A layout need not have all that it lists, and ordinary images are nothing for us.
        if layout.names_blob(&entry.digest)? {
            let manifests = in_indexes.entry(entry.digest).or_insert_with(|| {
                // What is wrong with one index does not keep other images from being converted.
                let manifests = layout.listed_by(&entry).unwrap_or_default().into_iter();
                let manifests = manifests.map(|manifest| manifest.digest);
                manifests
                    .filter(|manifest| !is_foreign(layout, manifest))
                    .collect::<Vec<_>>()
            });
            listed.extend(manifests.iter().map(|m| (*m, entry.tag.clone())));
        }
    }
    Ok(listed)
}

/// Whether this is no PuzzleFS image, as far as can be seen, or is not there.
fn is_foreign(layout: &Layout, manifest: &Digest) -> bool {
    matches!(Image::is_there(layout, manifest), Ok(false))
}
