// SPDX-License-Identifier: Apache-2.0
//! The config of a new image.

use anyhow::{Context, Result};
use oci_spec::image::{HistoryBuilder, ImageConfiguration, RootFsBuilder};

use crate::base::error::damage;
use crate::layout::manifest::{Config, Descriptor};

const EPOCH: &str = "1970-01-01T00:00:00Z";

/// The config of an image with these layers: `kept`, that of another one, but for what it says of layers
/// (OCI image-spec, config.md). Each of ours is stored as it is, so its digest is that of its content, too.
pub fn of(kept: &Config, layers: &[Descriptor], created_by: &str) -> Result<Config> {
    let annotations = kept.annotations.clone();
    let Some(text) = &kept.text else {
        return Ok(Config {
            text: None,
            annotations,
        });
    };
    let mut config = parse(text)?;
    let diff_ids = layers
        .iter()
        .map(|layer| format!("sha256:{}", layer.digest));
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(diff_ids.collect::<Vec<_>>())
        .build()?;
    config.set_rootfs(rootfs);
    // Who made what is still true; but the layers are no longer theirs.
    let mut history = config.history().clone().unwrap_or_default();
    for step in &mut history {
        step.set_empty_layer(Some(true));
    }
    // umoci stat wants a time of each step. That of the image is the only one that is the same each time.
    let created = config.created().clone();
    let own = HistoryBuilder::default()
        .created(created.unwrap_or_else(|| EPOCH.into()))
        .created_by(created_by)
        .build()?;
    history.resize(history.len() + layers.len(), own);
    config.set_history(Some(history));
    Ok(Config {
        text: Some(serde_json::to_vec(&config)?),
        annotations,
    })
}

/// Reads a config.
///
/// # Errors
///
/// If it is none.
pub fn parse(text: &[u8]) -> Result<ImageConfiguration> {
    let config = serde_json::from_slice(text).context("the config of the image");
    Ok(damage(config)?)
}
