// SPDX-License-Identifier: Apache-2.0
//! What an image has kept of the ordinary one that it was.

use anyhow::Context;
use oci_spec::image::{ImageManifest, MediaType};
use puzzlefs_format::Digest;

use super::Image;
use crate::base::error::{damage, Result, Where};
use crate::layout::manifest::{Config, MAX_DOCUMENT};

/// Annotations of this beginning are of our own manifests, and not of the image.
const OURS: &str = "io.puzzlefsoci.";

impl Image {
    /// The config of the ordinary image that it was, if it was one, and the annotations.
    pub fn kept(&self) -> Result<Config> {
        damage(self.read_kept()).of(self.manifest_digest())
    }

    fn read_kept(&self) -> anyhow::Result<Config> {
        let manifest: ImageManifest =
            serde_json::from_slice(self.manifest_bytes()).context("the manifest")?;
        let annotations = manifest.annotations().clone().unwrap_or_default();
        let mut annotations: Vec<(String, String)> = annotations
            .into_iter()
            .filter(|(name, _)| !name.starts_with(OURS))
            .collect();
        annotations.sort_unstable();
        let descriptor = manifest.config();
        let text = match *descriptor.media_type() == MediaType::ImageConfig {
            true => {
                let digest = Digest::parse(descriptor.digest().as_ref().as_bytes())?;
                Some(self.layout().read_blob(&digest, MAX_DOCUMENT)?)
            }
            false => None,
        };
        Ok(Config { text, annotations })
    }
}
