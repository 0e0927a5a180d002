// SPDX-License-Identifier: Apache-2.0
//! One tag for an ordinary image and a PuzzleFS image of the same tree: an index of both. The ordinary one
//! is the first, so that tools which know nothing of PuzzleFS take it; the second one is told apart by
//! `os.features` of its platform (OCI image-spec, image-index.md), as images of EROFS are.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use oci_spec::image::MediaType;
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde_json::{json, Value};

use super::sent::{self, Image, Origin};
use super::Remote;
use crate::base::digest::sha256;
use crate::base::error::{damage, Error, Result};
use crate::layout::manifest::{check_size, is_index, ARTIFACT_TYPE, MAX_DOCUMENT};
use crate::layout::platform::Platform;
use crate::layout::reference::{self, Name};
use crate::layout::Layout;
use crate::registry::{Options, Reference, Sources};

/// What tells a PuzzleFS image apart in an index.
pub const FEATURE: &str = "puzzlefs";
/// What an index says of manifests that are no images of any platform.
pub const UNKNOWN: &str = "unknown";
/// Indexes in indexes, at most.
const MAX_DEPTH: u32 = 4;

/// An ordinary image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum With {
    /// In a layout.
    Layout(reference::Reference),
    /// In a registry.
    Registry(Reference),
}

impl std::str::FromStr for With {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("oci", place)) => Ok(With::Layout(place.parse()?)),
            Some(("docker", _)) => Ok(With::Registry(text.parse()?)),
            _ => Err("expected oci:DIR:TAG or docker://HOST/REPOSITORY:TAG".into()),
        }
    }
}

/// Opens the ordinary image that is to stand beside `ours`; of an index that for the same platform.
pub fn open(with: &With, ours: &Image, options: &Options) -> Result<Image> {
    let (origin, name) = match with {
        With::Layout(reference) => (
            Origin::Layout(Layout::open(Path::new(&reference.layout))?),
            &reference.name,
        ),
        With::Registry(reference) => {
            let sources = Sources::open(&reference.repository, options)?;
            (Origin::Registry(Arc::new(sources)), &reference.name)
        }
    };
    let platform = platform(ours)?;
    let (mut text, mut media_type) = document(&origin, name)?;
    for _ in 0..MAX_DEPTH {
        if !is_index(&media_type) {
            let image = sent::of_manifest(text, &media_type, &origin)?;
            let own: Value = serde_json::from_slice(&image.text)?;
            return match is_ordinary(&own) {
                true => Ok(image),
                false => Err(Error::refused(format!("{name} is a PuzzleFS image itself"))),
            };
        }
        let value: Value = damage(serde_json::from_slice(&text).context("parsing an index"))?;
        let missing = || Error::not_found(format!("{name} has no image for {platform}"));
        let entry = ordinary_for(&value, &platform).ok_or_else(missing)?;
        let next: Name = format!("@{}", entry["digest"].as_str().unwrap_or_default())
            .parse()
            .map_err(Error::damaged)?;
        (text, media_type) = document(&origin, &next)?;
    }
    Err(Error::damaged(format!(
        "{name}: more than {MAX_DEPTH} indexes in each other"
    )))
}

/// The first ordinary image for a platform in an index.
fn ordinary_for<'a>(index: &'a Value, platform: &Platform) -> Option<&'a Value> {
    let ordinary = index["manifests"].as_array()?.iter();
    let ordinary = ordinary.filter(|entry| entry["platform"]["os.features"].is_null());
    let found = ordinary.flat_map(|entry| Some((Platform::of(&entry["platform"])?, entry)));
    let found: Vec<(Platform, &Value)> = found.collect();
    // Many say no variant where there is only one.
    let bare = Platform {
        variant: None,
        ..platform.clone()
    };
    let is_it = found.iter().find(|(it, _)| platform.takes(it));
    let entry = is_it.or_else(|| found.iter().find(|(it, _)| *it == bare));
    entry.map(|(_, entry)| *entry)
}

fn is_ordinary(manifest: &Value) -> bool {
    manifest["artifactType"] != ARTIFACT_TYPE
}

/// A manifest or an index.
fn document(origin: &Origin, name: &Name) -> Result<(Vec<u8>, String)> {
    match origin {
        Origin::Registry(sources) => {
            let found = sources.manifest(name)?;
            Ok((found.text, found.media_type))
        }
        Origin::Pulled(local) => {
            let found = local.manifest(name)?;
            Ok((found.text, found.media_type))
        }
        // What is at hand has no names.
        Origin::Memory(_) => Err(Error::not_found(format!("there is no manifest {name}"))),
        Origin::Layout(layout) => {
            let (digest, media_type) = match name {
                Name::Digest(digest) => (*digest, MEDIA_TYPE_MANIFEST.to_owned()),
                Name::Tag(tag) => {
                    let entries = layout.entries()?.into_iter();
                    let mut named = entries.filter(|entry| entry.tag.as_ref() == Some(tag));
                    let missing = || {
                        let text = format!("{} has no tag {tag}", layout.path().display());
                        Error::not_found(text)
                    };
                    let entry = named.next().ok_or_else(missing)?;
                    (entry.digest, entry.media_type)
                }
            };
            let text = layout.read_blob(&digest, MAX_DOCUMENT)?;
            // By its digest it has no entry that says it.
            let own: Value = damage(serde_json::from_slice(&text).context("parsing a manifest"))?;
            let own = own["mediaType"].as_str().map(str::to_owned);
            Ok((text, own.unwrap_or(media_type)))
        }
    }
}

/// For which machines an image is: its config says it; this one's, if it has none.
fn platform(image: &Image) -> Result<Platform> {
    match image.read_config()? {
        None => Ok(Platform::here()),
        Some(text) => damage(serde_json::from_slice(&text).context("parsing the config")),
    }
}

/// The index of both: its digest, its type and its bytes.
///
/// containerd fetches all of each image that is for its platform, and takes no notice of features. So where the first one stands
/// for ours, ours is for a platform that nobody has.
pub fn index(ordinary: &Image, ours: &Image, stands: bool) -> Result<(Digest, String, Vec<u8>)> {
    let platform = serde_json::to_value(platform(ours)?)?;
    let mut featured = match stands {
        true => json!({ "architecture": UNKNOWN, "os": UNKNOWN }),
        false => platform.clone(),
    };
    featured["os.features"] = json!([FEATURE]);
    let entry = |image: &Image, platform: Value| {
        json!({
            "mediaType": image.media_type,
            "digest": format!("sha256:{}", image.digest),
            "size": image.text.len(),
            "platform": platform,
        })
    };
    let mut second = entry(ours, featured);
    if ours.media_type == MEDIA_TYPE_MANIFEST {
        second["artifactType"] = ARTIFACT_TYPE.into();
    }
    let media_type = MediaType::ImageIndex.to_string();
    let text = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry(ordinary, platform), second],
    }))?;
    check_size(&text)?;
    Ok((sha256(&[&text]), media_type, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordinary_image_is_for_the_same_platform() {
        let entry = |platform: Value| json!({ "platform": platform });
        let index = json!({ "manifests": [
            entry(json!({ "os": "linux", "architecture": "arm", "variant": "v6" })),
            entry(json!({ "os": "linux", "architecture": "arm", "variant": "v7" })),
            entry(json!({ "os": "linux", "architecture": "amd64", "os.features": [FEATURE] })),
            entry(json!({ "os": "linux", "architecture": "amd64" })),
            entry(json!({ "os": "linux", "architecture": "arm64" })),
            entry(json!({ "os": 5 })),
            json!("none"),
        ]});
        let found = |platform: &str| {
            let entry = ordinary_for(&index, &platform.parse().unwrap())?;
            let list = index["manifests"].as_array()?;
            list.iter().position(|it| std::ptr::eq(it, entry))
        };
        for (platform, place) in [
            ("linux/arm/v7", Some(1)),
            ("linux/arm/v6", Some(0)),
            ("linux/arm", Some(0)),
            ("linux/arm/v5", None),
            ("linux/amd64", Some(3)),
            ("linux/arm64/v8", Some(4)),
            ("linux/s390x", None),
        ] {
            assert_eq!(found(platform), place, "{platform}");
        }
        assert!(ordinary_for(&json!([]), &Platform::here()).is_none());
    }
}
