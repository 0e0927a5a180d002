// SPDX-License-Identifier: Apache-2.0
//! Which manifest a name of the source leads to. An index may have ordinary images beside ours.

use std::cmp::Reverse;
use std::collections::HashSet;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Digest, Manifest};
use serde_json::Value;

use super::source::Source;
use crate::base::error::{damage, Error};
use crate::layout::manifest::ARTIFACT_TYPE;
use crate::layout::platform::Platform;
use crate::layout::reference::Name;
use crate::remote::with::{FEATURE, UNKNOWN};
use crate::remote::Document;

/// Documents that are fetched at most, to find one that is ours.
const MAX_DOCUMENTS: usize = 16;

/// The manifest of the PuzzleFS image that `name` leads to, of an index that for `platform`.
pub fn find(source: &Source<'_>, name: &Name, platform: &Platform) -> Result<Document> {
    let document = source.manifest(name)?;
    if !is_index(&document) {
        parse(&document)?;
        return Ok(document);
    }
    let mut seen = HashSet::from([document.digest]);
    // The likeliest last.
    let mut next = candidates(&document, platform)?;
    while let Some(digest) = next.pop() {
        if !seen.insert(digest) {
            continue;
        }
        ensure!(
            seen.len() <= MAX_DOCUMENTS,
            "{name} leads to more than {MAX_DOCUMENTS} manifests"
        );
        let document = source.manifest(&Name::Digest(digest))?;
        if is_index(&document) {
            next.extend(candidates(&document, platform)?);
        } else if parse(&document).is_ok() {
            return Ok(document);
        }
    }
    let text = format!("{name} is an index, and has no PuzzleFS image for {platform}");
    Err(Error::not_found(text).into())
}

/// Parses a manifest of ours.
pub fn parse(document: &Document) -> Result<Manifest<'_>> {
    let parsed = Manifest::parse(&document.text);
    let context = || {
        format!(
            "the manifest sha256:{} is no PuzzleFS image",
            document.digest
        )
    };
    damage(parsed.with_context(context)).map_err(Into::into)
}

/// By what it is: what the source says of it is a hint only.
fn is_index(document: &Document) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind {
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let kind: Result<Kind, _> = serde_json::from_slice(&document.text);
    kind.is_ok_and(|kind| kind.manifests.is_some() && kind.layers.is_none())
}

/// What an index has for `platform`, in the order in which it is not to be looked at.
fn candidates(index: &Document, platform: &Platform) -> Result<Vec<Digest>> {
    let context = || format!("the index sha256:{}", index.digest);
    let parsed = serde_json::from_slice(&index.text);
    let parsed: Value = damage(parsed.with_context(context))?;
    let mut found = Vec::new();
    for (place, entry) in parsed["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let text = entry["digest"].as_str().unwrap_or_default();
        let text = text.strip_prefix("sha256:").unwrap_or_default();
        if let (Ok(digest), true) = (Digest::parse(text.as_bytes()), is_for(entry, platform)) {
            found.push((rank(entry), Reverse(place), digest));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, _, digest)| digest).collect())
}

/// The rank of an entry that says that it is ours.
const OURS: u32 = 2;

/// How likely an entry is ours: higher numbers are.
fn rank(entry: &Value) -> u32 {
    // The types of oci-spec read this one by another name.
    let features = entry["platform"]["os.features"].as_array();
    let has_feature = features.is_some_and(|all| all.iter().any(|f| f == FEATURE));
    let is_index = entry["mediaType"]
        .as_str()
        .is_some_and(|kind| kind.contains("index"));
    match entry["artifactType"] == ARTIFACT_TYPE || has_feature {
        true => OURS,
        false => u32::from(is_index),
    }
}

fn is_for(entry: &Value, platform: &Platform) -> bool {
    let said = Platform::of(&entry["platform"]);
    said.is_none_or(|said| platform.takes(&said) || said.os == UNKNOWN && rank(entry) == OURS)
}
