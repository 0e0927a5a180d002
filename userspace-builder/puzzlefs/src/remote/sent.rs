// SPDX-License-Identifier: Apache-2.0
//! What of an image is sent to a registry: its manifest, and the blobs that this lists, wherever they are.

use std::io::{Cursor, Read};
use std::sync::Arc;

use anyhow::{ensure, Context};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};

use super::{Document, Local, Remote};

use crate::base::digest::sha256;
use crate::base::error::{damage, Error, Result, Where};
use crate::base::text;
use crate::layout::manifest::MAX_DOCUMENT;
use crate::layout::reference::Name;
use crate::layout::stand_in::StandIn;
use crate::layout::Layout;
use crate::registry::Sources;

/// An image that is to be sent.
pub struct Image {
    /// Of the manifest.
    pub digest: Digest,
    /// The manifest's type.
    pub media_type: String,
    /// The manifest as it is.
    pub text: Vec<u8>,
    /// Its config and its layers, each once.
    pub blobs: Vec<Blob>,
    /// The config among them, if it is that of a container.
    pub config: Option<Digest>,
}

/// A blob, and where it is.
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    origin: Origin,
}

/// Where blobs are.
#[derive(Clone)]
pub enum Origin {
    /// In a layout.
    Layout(Layout),
    /// The same, or put together from its chunks.
    Pulled(Arc<Local>),
    /// In a registry.
    Registry(Arc<Sources>),
    /// At hand.
    Memory(Arc<[u8]>),
}

impl Blob {
    /// Begins to read it.
    pub fn open(&self) -> Result<Box<dyn Read>> {
        self.origin.open(&self.digest, self.size)
    }
}

impl Origin {
    /// Begins to read a blob.
    pub fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read>> {
        Ok(match self {
            Origin::Layout(layout) => Box::new(layout.open_blob(digest)?),
            Origin::Pulled(local) => local.open(digest, 0..size)?,
            Origin::Registry(sources) => Box::new(sources.blob(digest, Some(size))?),
            Origin::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        })
    }
}

/// The image `name` of a layout, which must have all of it. One that was pulled is sent as it was pulled, also if
/// its chunks lie in other packs now.
pub fn of_layout(layout: &Layout, name: &Name) -> Result<Image> {
    let local = Arc::new(Local::new(layout.clone()));
    let Document {
        text, media_type, ..
    } = local.manifest(name)?;
    let image = of_manifest(text, &media_type, &Origin::Pulled(Arc::clone(&local)))?;
    for blob in &image.blobs {
        layout.ensure_whole(&blob.digest)?;
        let found = match local.composable(&blob.digest)? {
            Some(size) => Some(size),
            None => layout.blob_size(&blob.digest)?,
        };
        if found != Some(blob.size) {
            let path = layout.blob_path(&blob.digest);
            let what = match found {
                Some(found) => format!("has {found} bytes, and not {}", blob.size),
                None => "is not there".into(),
            };
            let text = format!(
                "the blob sha256:{} of {name} {what}: nothing was sent",
                blob.digest
            );
            return Err(Error::damaged(text).at(&path).of(&blob.digest));
        }
    }
    Ok(image)
}

/// The image with a manifest, whose blobs are at `origin`.
pub fn of_manifest(text: Vec<u8>, media_type: &str, origin: &Origin) -> Result<Image> {
    let digest = sha256(&[&text]);
    let parsed = parse(&text).with_context(|| format!("the manifest sha256:{digest}"));
    let manifest = damage(parsed).of(&digest)?;
    let mut image = Image {
        digest,
        media_type: media_type.to_owned(),
        text,
        blobs: Vec::new(),
        config: None,
    };
    let mut seen = std::collections::HashSet::new();
    for descriptor in std::iter::once(manifest.config()).chain(manifest.layers()) {
        let blob = of_descriptor(descriptor, origin)?;
        if seen.insert(blob.digest) {
            image.blobs.push(blob);
        }
    }
    let is_config = |media_type: &MediaType| {
        let docker = "application/vnd.docker.container.image.v1+json";
        *media_type == MediaType::ImageConfig || media_type.to_string() == docker
    };
    if is_config(manifest.config().media_type()) {
        image.config = image.blobs.first().map(|blob| blob.digest);
    }
    Ok(image)
}

/// The image that stands for `ours`, which can be had from `from`.
pub fn stand_in(ours: &Image, from: &str) -> Result<Image> {
    let it = StandIn::new(&ours.digest, from)?;
    let config = it.config(ours.read_config()?.as_deref())?;
    let text = it.manifest_with(&config)?;
    let blob = |bytes: Vec<u8>| Blob {
        digest: sha256(&[&bytes]),
        size: bytes.len() as u64,
        origin: Origin::Memory(bytes.into()),
    };
    let blobs = vec![blob(config), blob(it.layer())];
    Ok(Image {
        digest: sha256(&[&text]),
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        text,
        config: Some(blobs[0].digest),
        blobs,
    })
}

impl Image {
    /// The config, if it is that of a container.
    pub fn read_config(&self) -> Result<Option<Vec<u8>>> {
        let is_config = |blob: &&Blob| Some(blob.digest) == self.config;
        let Some(blob) = self.blobs.iter().find(is_config) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let read = blob.open()?.take(MAX_DOCUMENT).read_to_end(&mut text);
        read.context("reading the config")?;
        Ok(Some(text))
    }
}

fn parse(text: &[u8]) -> anyhow::Result<ImageManifest> {
    let manifest: ImageManifest = serde_json::from_slice(text)?;
    ensure!(
        manifest.schema_version() == 2,
        "its version is another one than 2"
    );
    Ok(manifest)
}

fn of_descriptor(descriptor: &Descriptor, origin: &Origin) -> Result<Blob> {
    let said = descriptor.digest().to_string();
    let digest = said.strip_prefix("sha256:");
    let digest = digest.and_then(|digest| Digest::parse(digest.as_bytes()).ok());
    let wrong = || {
        let said = text::quoted(said.as_bytes());
        Error::damaged(format!("a digest that is no sha256: {said}"))
    };
    Ok(Blob {
        digest: digest.ok_or_else(wrong)?,
        size: descriptor.size(),
        origin: origin.clone(),
    })
}
