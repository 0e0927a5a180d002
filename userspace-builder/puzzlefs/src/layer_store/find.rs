// SPDX-License-Identifier: Apache-2.0
//! Which stand-in a name leads to: the one that podman would pull.

use anyhow::Context;
use puzzlefs_format::Digest;
use serde_json::Value;

use crate::base::error::{damage, Error, Result};
use crate::layout::platform::Platform;
use crate::layout::reference::Name;
use crate::layout::stand_in::StandIn;
use crate::remote::Remote;

/// Manifests of an index that are looked at, at most.
const MAX_MANIFESTS: usize = 16;

/// The stand-in that `name` leads to, of an index the first one for `platform`.
///
/// # Errors
///
/// If there is none, or podman would not find its layer in a store.
pub fn find(remote: &dyn Remote, name: &Name, platform: &Platform) -> Result<StandIn> {
    let value = document(remote, name)?;
    let mut found = StandIn::of_manifest(&value);
    if let Some(entries) = value["manifests"].as_array() {
        let is_for = |entry: &&Value| {
            let said = Platform::of(&entry["platform"]);
            said.is_none_or(|said| platform.takes(&said))
        };
        for entry in entries.iter().filter(is_for).take(MAX_MANIFESTS) {
            let text = entry["digest"].as_str().unwrap_or_default();
            let hex = text.strip_prefix("sha256:").unwrap_or_default();
            let Ok(digest) = Digest::parse(hex.as_bytes()) else {
                continue;
            };
            found = StandIn::of_manifest(&document(remote, &Name::Digest(digest))?);
            if found.is_some() {
                break;
            }
        }
    }
    let (from, push) = (remote.name(), "push the image by puzzlefs push --stand-in");
    match found {
        Some((it, true)) => Ok(it),
        Some((_, false)) => Err(Error::refused(format!(
            "the layer of {name} of {from} has not the annotation by which podman finds it: {push}"
        ))),
        None => Err(Error::not_found(format!(
            "{name} of {from} has no image for {platform} that stands for a PuzzleFS image: {push}"
        ))),
    }
}

fn document(remote: &dyn Remote, name: &Name) -> Result<Value> {
    let document = remote.manifest(name)?;
    let parsed = serde_json::from_slice(&document.text);
    damage(parsed.with_context(|| format!("{name} of {}", remote.name())))
}
