// SPDX-License-Identifier: Apache-2.0
//! What a pull leaves where it has not stored all blobs of the image that it pulled (FORMAT.md,
//! section 2.2): a manifest of this layout, which says by annotations for which other it stands.
//!
//! Anybody can write such annotations. They are believed if the other manifest is in the layout
//! and has the same Rootfs and config: then both are the same files.

use std::collections::HashSet;

use puzzlefs_format::{limits, Digest, Manifest};
use serde_json::{json, Value};

use crate::base::error::Result;
use crate::layout::manifest::{check_size, Descriptor};
use crate::layout::reference::Name;
use crate::layout::Layout;

/// Annotation of a local manifest: the digest of the manifest that it stands for.
pub const PULLED_MANIFEST: &str = "io.puzzlefsoci.puzzlefs.pulled.manifest";
/// Annotation of a local manifest: the digest of a blob with the ends of the other's packs.
pub const PULLED_INDEXES: &str = "io.puzzlefsoci.puzzlefs.pulled.indexes";

/// What a local manifest says of the one that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The digest of that manifest.
    pub manifest: Digest,
    /// The digest of a blob with the ends (index and trailer) of all its packs, in its order.
    pub indexes: Digest,
}

impl Record {
    /// What a manifest says, if it says so.
    pub fn of(text: &[u8]) -> Option<Self> {
        Self::of_value(&serde_json::from_slice(text).ok()?)
    }

    /// The same of a parsed one.
    pub fn of_value(manifest: &Value) -> Option<Self> {
        let digest = |name: &str| {
            let text = manifest["annotations"][name].as_str()?;
            Digest::parse(text.strip_prefix("sha256:")?.as_bytes()).ok()
        };
        Some(Record {
            manifest: digest(PULLED_MANIFEST)?,
            indexes: digest(PULLED_INDEXES)?,
        })
    }

    /// `text`, a manifest, with this record.
    pub fn add_to(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut manifest: Value = serde_json::from_slice(text)?;
        if !manifest["annotations"].is_object() {
            manifest["annotations"] = json!({});
        }
        for (name, digest) in [
            (PULLED_MANIFEST, self.manifest),
            (PULLED_INDEXES, self.indexes),
        ] {
            manifest["annotations"][name] = format!("sha256:{digest}").into();
        }
        let text = serde_json::to_vec(&manifest)?;
        check_size(&text)?;
        Ok(text)
    }
}

/// Whether two manifests are of the same files and the same config.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let what = |text: &[u8]| {
        let manifest = Manifest::parse(text).ok()?;
        Some((
            manifest.rootfs().digest,
            manifest.config().map(|config| config.digest),
        ))
    };
    what(one).is_some_and(|one| what(other) == Some(one))
}

impl Layout {
    /// The manifest that a local one stands for, if it does: with its text.
    pub fn pulled(&self, text: &[u8]) -> Result<Option<(Record, Vec<u8>)>> {
        let Some(record) = Record::of(text) else {
            return Ok(None);
        };
        if !self.names_blob(&record.manifest)? {
            return Ok(None);
        }
        let pulled = self.read_blob(&record.manifest, limits::MAX_MANIFEST_BYTES as u64)?;
        Ok(is_same(text, &pulled).then_some((record, pulled)))
    }

    /// Whether an entry of index.json is of a manifest that says to stand for the one that `name` is.
    pub(super) fn stands_for(&self, entry: &Value, name: &Name) -> bool {
        let Name::Digest(digest) = name else {
            return false;
        };
        let local = entry["digest"].as_str().unwrap_or_default();
        let local = local.strip_prefix("sha256:").unwrap_or_default();
        let Ok(local) = Digest::parse(local.as_bytes()) else {
            return false;
        };
        let text = self.read_blob(&local, limits::MAX_MANIFEST_BYTES as u64);
        let record = text.ok().and_then(|text| Record::of(&text));
        record.is_some_and(|record| record.manifest == *digest)
    }

    /// The local manifest that stands for `manifest`, if index.json has one.
    pub(super) fn stand_in(&self, manifest: &Digest) -> Result<Option<Descriptor>> {
        let limit = limits::MAX_MANIFEST_BYTES as u64;
        let text = self.read_blob(manifest, limit)?;
        let mut seen = HashSet::new();
        let mut all = self.entries()?;
        // Once each, however often index.json and indexes list them.
        all.retain(|entry| seen.insert(entry.digest));
        for index in all.clone().iter().filter(|entry| entry.is_index()) {
            // What is wrong with other images does not matter here.
            let listed = self.listed_by(index).into_iter().flatten();
            all.extend(listed.filter(|entry| seen.insert(entry.digest)));
        }
        for entry in all {
            let Ok(local) = self.read_blob(&entry.digest, limit) else {
                continue;
            };
            let record = Record::of(&local);
            if record.is_some_and(|record| record.manifest == *manifest) && is_same(&local, &text) {
                return Ok(Some(Descriptor::new(
                    &entry.media_type,
                    entry.digest,
                    local.len() as u64,
                )));
            }
        }
        Ok(None)
    }
}
