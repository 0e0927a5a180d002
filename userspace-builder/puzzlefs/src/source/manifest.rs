// SPDX-License-Identifier: Apache-2.0
//! From a manifest to an image (OCI image-spec, manifest.md and image-index.md; Docker's
//! image manifest, version 2, schema 2, which has the same members).

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use anyhow::{bail, ensure, Context, Result};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_ROOTFS};
use serde_json::Value;

use super::image::{Blobs, Image, Layer};
use crate::base::error::{damage, Error};
use crate::base::text;
use crate::layers::Role;
use crate::layout::manifest;
use crate::layout::platform::{Choice, Platform};

/// Indexes in indexes, at most.
const MAX_DEPTH: u32 = 4;
/// Images of an index that are taken at once, at most: no index of real images has as many.
const MAX_IMAGES: usize = 64;
/// Bytes of all their configs, which are in memory together, at most.
const MAX_CONFIGS: usize = 16 << 20;

/// The images whose manifest, or index of manifests, is `text`.
pub fn images(text: &[u8], blobs: Rc<dyn Blobs>, choice: &Choice) -> Result<Vec<Image>> {
    match choice {
        Choice::One(platform) => Ok(vec![one(text, blobs, platform)?]),
        Choice::All => all(text, blobs),
    }
}

fn one(text: &[u8], blobs: Rc<dyn Blobs>, platform: &Platform) -> Result<Image> {
    let mut text = text.to_vec();
    for _ in 0..MAX_DEPTH {
        if !is_index(&text)? {
            return of_manifest(&text, blobs);
        }
        let index: ImageIndex = damage(serde_json::from_slice(&text).context("parsing an index"))?;
        let chosen = choose(index.manifests(), platform)?;
        text = blobs.document(&digest(chosen)?)?;
    }
    bail!("more than {MAX_DEPTH} indexes in each other");
}

fn all(text: &[u8], blobs: Rc<dyn Blobs>) -> Result<Vec<Image>> {
    let mut found = Vec::new();
    // What is still to be looked at, the next one last: how deep, which, and what it is for.
    let mut stack = vec![(1, None, None)];
    let mut configs = 0;
    let mut seen = HashSet::new();
    while let Some((depth, document, platform)) = stack.pop() {
        let text = match &document {
            Some(digest) => blobs.document(digest)?,
            None => text.to_vec(),
        };
        if !is_index(&text)? {
            ensure!(
                found.len() < MAX_IMAGES,
                "an index of more than {MAX_IMAGES} images"
            );
            let mut image = of_manifest(&text, blobs.clone())?;
            image.platform = platform;
            configs += image.config.as_ref().map_or(0, Vec::len);
            ensure!(
                configs <= MAX_CONFIGS,
                "configs of more than {MAX_CONFIGS} bytes"
            );
            found.push(image);
            continue;
        }
        ensure!(
            depth < MAX_DEPTH,
            "more than {MAX_DEPTH} indexes in each other"
        );
        let context = "parsing an index";
        let typed: ImageIndex = damage(serde_json::from_slice(&text).context(context))?;
        // oci-spec reads some members of a platform by other names.
        let plain: Value = damage(serde_json::from_slice(&text).context(context))?;
        let entries = plain["manifests"].as_array().map_or(&[][..], |list| list);
        for (descriptor, entry) in typed.manifests().iter().zip(entries).rev() {
            let digest = digest(descriptor)?;
            if is_attestation(entry) || !seen.insert(digest) {
                continue;
            }
            ensure!(
                seen.len() <= MAX_IMAGES,
                "an index of more than {MAX_IMAGES} images"
            );
            let platform = entry.get("platform").cloned();
            stack.push((depth + 1, Some(digest), platform));
        }
    }
    match found.is_empty() {
        true => Err(Error::not_found("an index without an image").into()),
        false => Ok(found),
    }
}

/// Whether an entry is no image, but what BuildKit says of one.
fn is_attestation(entry: &Value) -> bool {
    entry["platform"]["os"] == "unknown" && entry["platform"]["architecture"] == "unknown"
}

/// Whether `text` is an index.
fn is_index(text: &[u8]) -> Result<bool> {
    #[derive(serde::Deserialize)]
    struct Kind {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(rename = "schemaVersion")]
        schema_version: Option<u32>,
    }
    let kind: Kind = damage(serde_json::from_slice(text).context("parsing a manifest"))?;
    ensure!(
        kind.schema_version == Some(2),
        "a manifest of another version than 2: pull the image with a tool of today, and push it again"
    );
    Ok(match kind.media_type {
        Some(media_type) if manifest::is_index(&media_type) => true,
        Some(media_type) if manifest::is_manifest(&media_type) => false,
        Some(media_type) => bail!("{} is no image", text::quoted(media_type.as_bytes())),
        None => kind.manifests.is_some(),
    })
}

/// The first manifest for `platform`.
fn choose<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let of = |manifest: &Descriptor| manifest.platform().as_ref().map(Platform::from);
    let is_ours = |manifest: &&Descriptor| of(manifest).is_some_and(|it| platform.takes(&it));
    if let Some(manifest) = manifests.iter().find(is_ours) {
        return Ok(manifest);
    }
    if let [single] = manifests {
        if single.platform().is_none() {
            return Ok(single);
        }
    }
    let all: Vec<String> = manifests
        .iter()
        .flat_map(of)
        .map(|it| it.to_string())
        .collect();
    let text = format!(
        "no image for {platform}, but for {}: name one by --platform",
        all.join(", ")
    );
    Err(Error::not_found(text).into())
}

fn of_manifest(text: &[u8], blobs: Rc<dyn Blobs>) -> Result<Image> {
    let manifest: ImageManifest =
        damage(serde_json::from_slice(text).context("parsing a manifest"))?;
    ensure!(
        manifest.layers().len() <= limits::MAX_LAYERS as usize * 8,
        "an image of {} layers",
        manifest.layers().len()
    );
    let layers = manifest
        .layers()
        .iter()
        .map(|layer| of_layer(layer, &blobs));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let annotations: BTreeMap<_, _> = manifest
        .annotations()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    Ok(Image {
        layers,
        config: Some(blobs.text(&digest(manifest.config())?)?),
        annotations: annotations.into_iter().collect(),
        platform: None,
    })
}

fn of_layer(layer: &Descriptor, blobs: &Rc<dyn Blobs>) -> Result<Layer> {
    let media_type = layer.media_type().to_string();
    let wrong = match &*media_type {
        MEDIA_TYPE_ROOTFS => Some("it is a PuzzleFS image already"),
        _ if media_type.contains("encrypted") => Some("it is encrypted: decrypt it first"),
        _ if media_type.contains(".tar") => None,
        _ => Some("it is no tar"),
    };
    if let Some(wrong) = wrong {
        bail!(
            "a layer of type {}: {wrong}",
            text::quoted(media_type.as_bytes())
        );
    }
    let (digest, blobs) = (digest(layer)?, blobs.clone());
    Ok(Layer {
        role: Role::Layer,
        digest: Some(digest),
        blob: Box::new(move || blobs.open(&digest)),
    })
}

/// The digest of a descriptor.
pub fn digest(descriptor: &Descriptor) -> Result<Digest> {
    let text = descriptor.digest().to_string();
    let digest = text
        .strip_prefix("sha256:")
        .map(|hex| Digest::parse(hex.as_bytes()));
    match digest {
        Some(Ok(digest)) => Ok(digest),
        _ => bail!(
            "a digest that is no sha256: {}",
            text::quoted(text.as_bytes())
        ),
    }
}
