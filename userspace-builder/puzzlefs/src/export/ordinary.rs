// SPDX-License-Identifier: Apache-2.0
//! An image becomes an ordinary one: a layer that any runtime unpacks, and the config that the image
//! has kept.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::write::GzEncoder;
use oci_spec::image::{
    Arch, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, MediaType, Os,
    RootFsBuilder,
};
use serde::Serialize;
use serde_json::json;

use super::Report;
use crate::base::digest::{Blob, Digest, Hashing};
use crate::base::error::damage;
use crate::base::progress::Progress;
use crate::image::Image;
use crate::layout::manifest::{check_size, Config};
use crate::layout::staging::Staging;
use crate::layout::Layout;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As every tool reads it.
    Gzip,
    /// Smaller, and unpacked sooner; tools of before 2021 do not know it.
    Zstd,
}

impl Compression {
    fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// An ordinary image that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// The digest of its manifest.
    pub manifest: String,
    /// The digest of its layer.
    pub layer: String,
    /// Bytes of the layer as it is stored.
    pub layer_bytes: u64,
    /// What is in the layer.
    #[serde(flatten)]
    pub report: Report,
}

/// Writes `image` into `layout` as an ordinary one of a single layer, and lets `tag` name it.
///
/// # Errors
///
/// The tag and all blobs stay as they were when anything fails.
pub fn export(
    image: &Image,
    layout: &Layout,
    tag: &str,
    compression: Compression,
    progress: &dyn Progress,
) -> crate::Result<Exported> {
    let _kept = layout.keep_blobs(progress)?;
    let staging = Staging::new(layout)?;
    let mut draft = staging.begin()?;
    let (report, content) = compressed(&mut draft, compression, |out| {
        super::write(image, out, true, progress)
    })?;
    let layer = staging.end(draft)?;
    let kept = image.kept()?;
    let text = config(&kept, &content.digest)?;
    let config = staging.put_with(|out| Ok(out.write_all(&text)?))?;
    let text = manifest(&config, &layer, compression, kept.annotations)?;
    check_size(&text)?;
    let manifest = staging.put_with(|out| Ok(out.write_all(&text)?))?;
    staging.commit()?;
    let media_type = MediaType::ImageManifest.to_string();
    layout.set_tag_as(tag, &media_type, &manifest.digest, manifest.size)?;
    Ok(Exported {
        manifest: manifest.digest.to_string(),
        layer: layer.digest.to_string(),
        layer_bytes: layer.size,
        report,
    })
}

/// What `fill` writes is compressed to `out`. What it was before is measured.
fn compressed<T>(
    out: &mut dyn Write,
    compression: Compression,
    fill: impl FnOnce(&mut dyn Write) -> Result<T>,
) -> Result<(T, Blob)> {
    const CONTEXT: &str = "compressing the layer";
    Ok(match compression {
        Compression::None => {
            let mut hashing = Hashing::new(out);
            let done = fill(&mut hashing)?;
            (done, hashing.finish().1)
        }
        Compression::Gzip => {
            let mut hashing = Hashing::new(GzEncoder::new(out, flate2::Compression::default()));
            let done = fill(&mut hashing)?;
            let (encoder, content) = hashing.finish();
            encoder.finish().context(CONTEXT)?;
            (done, content)
        }
        Compression::Zstd => {
            let encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL);
            let mut hashing = Hashing::new(encoder.context(CONTEXT)?);
            let done = fill(&mut hashing)?;
            let (encoder, content) = hashing.finish();
            encoder.finish().context(CONTEXT)?;
            (done, content)
        }
    })
}

/// The config with the layer that there is (OCI image-spec, config.md).
fn config(kept: &Config, diff_id: &Digest) -> Result<Vec<u8>> {
    let mut config: ImageConfiguration = match &kept.text {
        Some(text) => damage(serde_json::from_slice(text).map_err(Into::into))
            .context("the config of the image")?,
        // Any machine may have made the tree; that it is for this one is what most mean.
        None => ImageConfigurationBuilder::default()
            .architecture(Arch::default())
            .os(Os::default())
            .build()?,
    };
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(vec![format!("sha256:{diff_id}")])
        .build()?;
    config.set_rootfs(rootfs);
    // Steps without a layer are those of the ordinary image.
    let mut history = config.history().clone().unwrap_or_default();
    history.retain(|step| step.empty_layer() == Some(true));
    // As in what puzzlefs convert makes: umoci stat wants a time of each step.
    let created = config.created().clone();
    let own = HistoryBuilder::default()
        .created(created.unwrap_or_else(|| "1970-01-01T00:00:00Z".into()))
        .created_by("puzzlefs export")
        .build()?;
    history.push(own);
    config.set_history(Some(history));
    Ok(serde_json::to_vec(&config)?)
}

/// Its members are in the order of the specification, so that the same image gives the same bytes.
fn manifest(
    config: &Blob,
    layer: &Blob,
    compression: Compression,
    annotations: Vec<(String, String)>,
) -> Result<Vec<u8>> {
    let descriptor = |media_type: MediaType, blob: &Blob| {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", blob.digest),
            "size": blob.size,
        })
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest,
        "config": descriptor(MediaType::ImageConfig, config),
        "layers": [descriptor(compression.media_type(), layer)],
    });
    if !annotations.is_empty() {
        manifest["annotations"] = annotations
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    Ok(serde_json::to_vec(&manifest)?)
}
