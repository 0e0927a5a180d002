// SPDX-License-Identifier: Apache-2.0
//! Writing the OCI image manifest of an image (OCI image-spec v1.1, manifest.md).
//!
//! By types of our own: a manifest is named by its digest, so the same layers are to give the same
//! bytes, and [`oci_spec`] keeps annotations in an order that differs from run to run. The format core
//! reads it, as the kernel does.

use anyhow::Context;
use oci_spec::image::{MediaType, ANNOTATION_CREATED};
use puzzlefs_format::{limits, Digest, ANNOTATION_FS_VERITY};
use puzzlefs_format::{MEDIA_TYPE_CHUNK, MEDIA_TYPE_MANIFEST, MEDIA_TYPE_PACK, MEDIA_TYPE_PROFILE};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::base::digest::hex;
use crate::base::error::{Error, Result};
use crate::base::time;

/// What kind of artifact a PuzzleFS image is.
pub const ARTIFACT_TYPE: &str = "application/vnd.puzzlefs.image.v1";

/// Annotation of the Rootfs' descriptor with its fs-verity digest, as upstream names it.
pub const ROOTFS_VERITY: &str = "io.puzzlefsoci.puzzlefs.puzzlefs_verity_root_hash";

/// Bytes of a config, a manifest or an index, at most, as registries have it.
pub const MAX_DOCUMENT: u64 = limits::MAX_MANIFEST_BYTES as u64;

/// Media types of Docker's, which are no more than other names of OCI's.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// That of an index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Whether this is the media type of an index.
pub fn is_index(media_type: &str) -> bool {
    media_type == MediaType::ImageIndex.as_ref() || media_type == DOCKER_LIST
}

/// Whether this is the media type of an image's manifest.
pub fn is_manifest(media_type: &str) -> bool {
    media_type == MEDIA_TYPE_MANIFEST || media_type == DOCKER_MANIFEST
}

/// Chunks that a manifest can list for certain: a descriptor of one takes at most 168
/// bytes, and all else in the manifest less than 4 KiB.
pub const MAX_CHUNKS: usize = (limits::MAX_MANIFEST_BYTES - 4096) / 168;

/// The empty config that an artifact has (manifest.md, "Guidance for an Empty Descriptor").
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// An OCI content descriptor.
#[derive(Clone, Debug, Serialize)]
pub struct Descriptor {
    /// Media type.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Digest of the blob.
    #[serde(serialize_with = "prefixed")]
    pub digest: Digest,
    /// Its size in bytes, as stored.
    pub size: u64,
    /// Annotations.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor without annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let annotations = Map::new();
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations,
        }
    }

    /// The descriptor of a pack, whose fs-verity digest vouches for all that its index says.
    pub fn of_pack(digest: Digest, size: u64, fs_verity: &[u8; 32]) -> Self {
        let mut pack = Self::new(MEDIA_TYPE_PACK, digest, size);
        let annotations = &mut pack.annotations;
        annotations.insert(ANNOTATION_FS_VERITY.into(), hex(fs_verity).into());
        pack
    }
}

/// The fs-verity digest in the descriptor of a pack, if it has one.
pub fn fs_verity(pack: &Descriptor) -> Option<[u8; 32]> {
    let text = pack.annotations.get(ANNOTATION_FS_VERITY)?.as_str()?;
    // Of the same form as a SHA-256.
    Some(*Digest::parse(text.as_bytes()).ok()?.as_bytes())
}

fn prefixed<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("sha256:{digest}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    artifact_type: &'a str,
    config: Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "Map::is_empty")]
    annotations: Map<String, Value>,
}

/// A manifest with `layers` in place of the chunks and packs that it lists. All else
/// stays as it is; a profile among them comes before those that it has.
pub fn with_layers(text: &[u8], layers: &[Descriptor]) -> Result<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(text).context("the manifest")?;
    let list = manifest["layers"].as_array_mut().context("no layers")?;
    list.retain(|layer| {
        let media_type = layer["mediaType"].as_str().unwrap_or_default();
        media_type != MEDIA_TYPE_PACK && !media_type.starts_with(MEDIA_TYPE_CHUNK)
    });
    let is_profile = |layer: &&Descriptor| layer.media_type == MEDIA_TYPE_PROFILE;
    if let Some(profile) = layers.iter().find(is_profile) {
        let profile = serde_json::to_value(profile)?;
        list.retain(|layer| layer["digest"] != profile["digest"]);
        let mut old = list.iter();
        let first = old.position(|layer| layer["mediaType"] == MEDIA_TYPE_PROFILE);
        list.insert(first.unwrap_or(list.len()), profile);
    }
    for layer in layers.iter().filter(|layer| !is_profile(layer)) {
        list.push(serde_json::to_value(layer)?);
    }
    let text = serde_json::to_vec(&manifest)?;
    check_size(&text)?;
    Ok(text)
}

/// Refuses a manifest that could not travel.
pub fn check_size(text: &[u8]) -> Result<()> {
    match text.len() <= limits::MAX_MANIFEST_BYTES {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "the manifest has {} bytes, more than the {} that registries take; use packs or a \
             larger --chunk-size",
            text.len(),
            limits::MAX_MANIFEST_BYTES
        ))),
    }
}

/// What of an image is for those who run it, and not for those who mount it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The config as it is to be stored; none if there is nothing to say.
    pub text: Option<Vec<u8>>,
    /// Annotations of the manifest.
    pub annotations: Vec<(String, String)>,
}

impl Config {
    /// The bytes of its blob.
    pub fn text(&self) -> &[u8] {
        self.text.as_deref().unwrap_or(EMPTY_CONFIG)
    }

    fn descriptor(&self) -> Descriptor {
        let media_type = match self.text {
            Some(_) => MediaType::ImageConfig,
            None => MediaType::EmptyJSON,
        };
        let digest = crate::base::digest::sha256(&[self.text()]);
        Descriptor::new(media_type.as_ref(), digest, self.text().len() as u64)
    }
}

/// The manifest of an image with the given layers, the Rootfs first. `created` is in
/// seconds since the epoch; without it the same layers give the same manifest.
pub fn render(layers: &[Descriptor], config: &Config, created: Option<i64>) -> Result<Vec<u8>> {
    let mut annotations = Map::new();
    for (name, value) in &config.annotations {
        annotations.insert(name.clone(), value.clone().into());
    }
    if let Some(created) = created {
        annotations.insert(ANNOTATION_CREATED.into(), time::rfc3339(created).into());
    }
    Ok(serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST,
        artifact_type: ARTIFACT_TYPE,
        config: config.descriptor(),
        layers,
        annotations,
    })?)
}
