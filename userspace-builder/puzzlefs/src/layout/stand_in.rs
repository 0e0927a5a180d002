// SPDX-License-Identifier: Apache-2.0
//! An ordinary image that stands for one of ours (schema/FORMAT.md, 2.5): for runtimes which know ordinary images only,
//! and ask somebody else for the root filesystem, as containerd asks its snapshotter.
//!
//! Its one layer is a tar of one small file, which says which image it stands for. The layer's digest is that of this
//! text, so that whoever knows the digest can believe what the text says.

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::base::digest::sha256;
use crate::base::error::{self, damage};
use crate::layout::platform::Platform;

/// The file in the layer.
pub const FILE: &str = ".puzzlefs-image.json";
/// The annotation of the layer with the text of the file. containerd passes annotations that begin like this to its snapshotter.
pub const LABEL: &str = "containerd.io/snapshot/puzzlefs.image";
/// The annotation of the layer with its digest, once more: podman and CRI-O ask their additional layer stores for layers that
/// have one, by its value, and know this one for that of the table of contents of a layer.
pub const TOC: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Bytes of the text, at most: containerd takes labels of up to 4096, with their names.
pub const MAX_TEXT: usize = 3072;

/// Bytes of the layer, at most.
pub const MAX_LAYER: u64 = (MAX_TEXT + 3 * BLOCK) as u64;

/// Bytes of a block of a tar.
const BLOCK: usize = 512;
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// What the text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The text itself.
    pub text: String,
    /// The manifest of the image.
    pub manifest: Digest,
    /// Where the image can be had: a repository, as `docker://HOST/REPOSITORY`.
    pub from: String,
}

#[derive(Serialize, Deserialize)]
struct Text {
    /// Which version of all this.
    puzzlefs: u32,
    manifest: String,
    from: String,
}

impl StandIn {
    /// One for the image with this manifest, which can be had from `from`.
    ///
    /// # Errors
    ///
    /// If the name of that is too long.
    pub fn new(manifest: &Digest, from: &str) -> error::Result<Self> {
        let text = serde_json::to_string(&Text {
            puzzlefs: 1,
            manifest: format!("sha256:{manifest}"),
            from: from.to_owned(),
        })?;
        Self::parse(&text)
    }

    /// What a text says.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> error::Result<Self> {
        damage(Self::read(text).context("the text of a stand-in"))
    }

    fn read(text: &str) -> Result<Self> {
        ensure!(text.len() <= MAX_TEXT, "it has {} bytes", text.len());
        let parsed: Text = serde_json::from_str(text)?;
        ensure!(parsed.puzzlefs == 1, "it is of version {}", parsed.puzzlefs);
        let hex = parsed.manifest.strip_prefix("sha256:").unwrap_or_default();
        let manifest = Digest::parse(hex.as_bytes());
        Ok(StandIn {
            text: text.to_owned(),
            manifest: manifest.with_context(|| parsed.manifest.clone())?,
            from: parsed.from,
        })
    }

    /// What a layer says, of which there are all bytes.
    ///
    /// # Errors
    ///
    /// If it is none that [`StandIn::layer`] makes.
    pub fn of_layer(layer: &[u8]) -> error::Result<Self> {
        let text = layer.get(BLOCK..).unwrap_or_default();
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = damage(std::str::from_utf8(text).context("the layer of a stand-in"))?;
        let it = Self::parse(text)?;
        match it.layer() == layer {
            true => Ok(it),
            false => Err(error::Error::damaged("it is not the layer of a stand-in")),
        }
    }

    /// The stand-in with this manifest, if it is that of one. `true`: podman and CRI-O can find its layer.
    pub fn of_manifest(manifest: &Value) -> Option<(Self, bool)> {
        let layers = manifest["layers"].as_array()?;
        let [layer] = &layers[..] else {
            return None;
        };
        let it = Self::parse(layer["annotations"][LABEL].as_str()?).ok()?;
        let digest = format!("sha256:{}", it.digest());
        // Others that have this layer's digest have this text.
        let is_it = layer["digest"] == digest.as_str();
        let is_found = layer["annotations"][TOC] == digest.as_str();
        is_it.then_some((it, is_found))
    }

    /// The layer, to the byte the same for the same text.
    pub fn layer(&self) -> Vec<u8> {
        let text = self.text.as_bytes();
        let mut header = tar::Header::new_ustar();
        // It is short, and so is the text.
        let _ = header.set_path(FILE);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o444);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        header.set_cksum();
        let mut layer = header.as_bytes().to_vec();
        layer.extend_from_slice(text);
        // Up to the next block, and two blocks of zeros at the end.
        layer.resize(layer.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        layer
    }

    /// The digest of the layer, which is what containerd calls a snapshot of it.
    pub fn digest(&self) -> Digest {
        sha256(&[&self.layer()])
    }

    /// The config: that of the image, but for what it says of layers.
    ///
    /// # Errors
    ///
    /// If `config` is none.
    pub fn config(&self, config: Option<&[u8]>) -> error::Result<Vec<u8>> {
        let platform = serde_json::to_value(Platform::here())?;
        let mut value: Value = match config {
            Some(text) => damage(serde_json::from_slice(text).context("the config of the image"))?,
            None => platform,
        };
        if !value.is_object() {
            return Err(error::Error::damaged(
                "the config of the image is no object",
            ));
        }
        let diff_id = format!("sha256:{}", self.digest());
        value["rootfs"] = json!({ "type": "layers", "diff_ids": [diff_id] });
        let created = value["created"].as_str().unwrap_or(EPOCH).to_owned();
        let mut history = value["history"].as_array().cloned().unwrap_or_default();
        for step in history.iter_mut().filter(|step| step.is_object()) {
            step["empty_layer"] = true.into();
        }
        history.push(json!({ "created": created, "created_by": "puzzlefs push --stand-in" }));
        value["history"] = history.into();
        Ok(serde_json::to_vec(&value)?)
    }

    /// The manifest of the stand-in with this config.
    ///
    /// # Errors
    ///
    /// None.
    pub fn manifest_with(&self, config: &[u8]) -> error::Result<Vec<u8>> {
        let layer = self.layer();
        let digest = format!("sha256:{}", self.digest());
        Ok(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_MANIFEST,
            "config": {
                "mediaType": CONFIG,
                "digest": format!("sha256:{}", sha256(&[config])),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": TAR,
                "digest": digest,
                "size": layer.len(),
                "annotations": { LABEL: self.text, TOC: digest },
            }],
        }))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_makes_the_same_layer() {
        let manifest = Digest::from_bytes([7; 32]);
        let it = StandIn::new(&manifest, "docker://h.example/a/web").unwrap();
        assert_eq!(StandIn::parse(&it.text).unwrap(), it);
        assert_eq!(it.layer().len() % 512, 0);
        // Nodes that have pulled it know it by this name.
        let digest = it.digest().to_string();
        assert_eq!(&digest[..16], "8ae6197009555afd");
        let mut entries = 0;
        for entry in tar::Archive::new(&it.layer()[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some(FILE));
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            assert_eq!(text, it.text);
            entries += 1;
        }
        assert_eq!(entries, 1);
        assert_eq!(StandIn::of_layer(&it.layer()).unwrap(), it);
        let mut other = it.layer();
        other[0] = b'x';
        for bad in [&b""[..], &it.layer()[..1024], &other] {
            assert!(StandIn::of_layer(bad).is_err(), "{} bytes", bad.len());
        }
        for bad in [
            "",
            "{}",
            "{\"puzzlefs\":2,\"manifest\":\"\",\"from\":\"\"}",
            &"x".repeat(9999),
        ] {
            assert!(StandIn::parse(bad).is_err(), "{bad}");
        }
        assert!(StandIn::new(&manifest, &"a".repeat(MAX_TEXT)).is_err());
    }

    #[test]
    fn the_config_is_that_of_the_image() {
        let it = StandIn::new(&Digest::from_bytes([7; 32]), "docker://h.example/a").unwrap();
        let own = json!({ "os": "linux", "architecture": "arm64", "config": { "Cmd": ["x"] },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:1", "sha256:2"] },
            "history": [{ "created_by": "a" }, { "created_by": "b" }] });
        let text = serde_json::to_vec(&own).unwrap();
        let config: Value = serde_json::from_slice(&it.config(Some(&text)).unwrap()).unwrap();
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["config"]["Cmd"][0], "x");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
        let layers = config["history"].as_array().unwrap().iter();
        let layers = layers.filter(|step| step["empty_layer"] != true);
        assert_eq!(layers.count(), 1);
        let none: Value = serde_json::from_slice(&it.config(None).unwrap()).unwrap();
        assert_eq!(none["os"], "linux");
        assert!(it.config(Some(b"[]")).is_err());
        let manifest = it.manifest_with(&it.config(None).unwrap()).unwrap();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(StandIn::of_manifest(&manifest), Some((it.clone(), true)));
        manifest["layers"][0]["annotations"][TOC] = "sha256:0".into();
        assert_eq!(StandIn::of_manifest(&manifest), Some((it, false)));
        manifest["layers"][0]["digest"] = "sha256:0".into();
        assert_eq!(StandIn::of_manifest(&manifest), None);
    }
}
