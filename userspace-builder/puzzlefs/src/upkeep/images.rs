// SPDX-License-Identifier: Apache-2.0
//! The images of a layout that are to be converted, and their new manifests.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use puzzlefs_format::Digest;
use serde::Serialize;

use crate::base::progress::{Progress, Unit};
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
    pub(super) fn new(layout: &'a Layout, tags: &[String]) -> Result<Self> {
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
    pub(super) fn write(
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
