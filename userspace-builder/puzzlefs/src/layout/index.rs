// SPDX-License-Identifier: Apache-2.0
//! index.json: which manifests a layout has, and their tags.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde_json::{json, Value};

use super::lock::Lock;
use super::manifest::{Descriptor, ARTIFACT_TYPE};
use super::Layout;
use crate::base::error::Failure;
use crate::base::text;

const INDEX_FILE: &str = "index.json";
const MEDIA_TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Annotation of an index entry that holds its tag (OCI image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Layout {
    /// Makes the index.json of a new layout at `path`, unless there is one.
    pub(super) fn create_index(lock: &Lock<'_>, path: &Path) -> Result<()> {
        match path.join(INDEX_FILE).exists() {
            true => Ok(()),
            false => lock.replace(INDEX_FILE, &serde_json::to_vec(&no_images())?),
        }
    }

    /// The manifest descriptor that `tag` names.
    pub fn resolve(&self, tag: &str) -> Result<Descriptor> {
        let index = self.index()?.unwrap_or_default();
        let entries = entries(&index);
        let Some(entry) = entries.iter().find(|e| tag_of(e) == Some(tag)) else {
            let tags = entries.iter().filter_map(tag_of);
            let tags: Vec<String> = tags.map(|tag| text::quoted(tag.as_bytes())).collect();
            return Err(Failure::NotFound.error(format!(
                "{} has no tag {tag}; it has: {}",
                self.path.display(),
                tags.join(" ")
            )));
        };
        let digest = entry["digest"].as_str().unwrap_or_default();
        ensure!(
            entry["mediaType"] == MEDIA_TYPE_MANIFEST,
            "tag {tag} is no OCI image manifest but {}",
            entry["mediaType"]
        );
        let digest = Digest::parse(digest.as_bytes())
            .map_err(|e| anyhow::anyhow!("index.json: tag {tag}: digest {digest:?}: {e}"))?;
        let size = entry["size"]
            .as_u64()
            .context("index.json: a descriptor without size")?;
        Ok(Descriptor::new(MEDIA_TYPE_MANIFEST, digest, size))
    }

    /// Lets `tag` name `manifest` from now on, and leaves all other entries as they
    /// are. The change is atomic and durable; concurrent builds wait for each other.
    pub fn set_tag(&self, tag: &str, manifest: &Digest, size: u64) -> Result<()> {
        let lock = Lock::new(&self.path)?;
        let mut index = self.index()?.unwrap_or_else(no_images);
        let list = index["manifests"]
            .as_array_mut()
            .context("index.json: manifests is no array")?;
        list.retain(|e| tag_of(e) != Some(tag));
        list.push(json!({
            "mediaType": MEDIA_TYPE_MANIFEST,
            "digest": format!("sha256:{manifest}"),
            "size": size,
            "annotations": { REF_NAME: tag },
            "artifactType": ARTIFACT_TYPE,
        }));
        lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)
    }

    /// Takes `tag` out of index.json, which must have it.
    pub fn remove_tag(&self, tag: &str) -> Result<()> {
        let lock = Lock::new(&self.path)?;
        self.resolve(tag)?;
        let mut index = self.index()?.unwrap_or_default();
        if let Some(list) = index["manifests"].as_array_mut() {
            list.retain(|entry| tag_of(entry) != Some(tag));
        }
        lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)
    }

    /// Lets tags, of which index.json has entries, name other manifests, all at once:
    /// `change` gets an entry's digest and tag, and gives the new digest and size.
    pub fn replace(
        &self,
        change: impl Fn(&Digest, Option<&str>) -> Option<(Digest, u64)>,
    ) -> Result<()> {
        let lock = Lock::new(&self.path)?;
        let mut index = self.index()?.unwrap_or_default();
        for entry in index["manifests"].as_array_mut().into_iter().flatten() {
            let digest = entry["digest"].as_str().unwrap_or_default();
            let Ok(digest) = Digest::parse(digest.as_bytes()) else {
                continue;
            };
            if let Some((digest, size)) = change(&digest, tag_of(entry)) {
                entry["digest"] = format!("sha256:{digest}").into();
                entry["size"] = size.into();
            }
        }
        lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)
    }

    /// The manifests that index.json lists, in its order, with their tags if they have any.
    pub fn manifests(&self) -> Result<Vec<(Digest, Option<String>)>> {
        let index = self.index()?.unwrap_or_default();
        let manifests = entries(&index).iter();
        let manifests = manifests.filter(|entry| entry["mediaType"] == MEDIA_TYPE_MANIFEST);
        let named = manifests.filter_map(|entry| {
            let digest = Digest::parse(entry["digest"].as_str()?.as_bytes()).ok()?;
            Some((digest, tag_of(entry).map(str::to_owned)))
        });
        Ok(named.collect())
    }

    /// index.json, if there is one.
    pub fn index(&self) -> Result<Option<Value>> {
        let path = self.path.join(INDEX_FILE);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let index = serde_json::from_slice(&text).map_err(|error| Failure::Damaged.mark(error));
        let index: Value = index.with_context(|| format!("parsing {}", path.display()))?;
        if !index["manifests"].is_array() {
            let text = format!("{}: manifests is no array", path.display());
            return Err(Failure::Damaged.error(text));
        }
        Ok(Some(index))
    }
}

fn no_images() -> Value {
    json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": [] })
}

fn entries(index: &Value) -> &[Value] {
    index["manifests"].as_array().map_or(&[], |list| list)
}

fn tag_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}
