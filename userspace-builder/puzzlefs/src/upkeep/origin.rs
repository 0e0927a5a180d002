// SPDX-License-Identifier: Apache-2.0
//! The manifest that an image had when it came into the layout, or was made there. Its digest may be
//! signed, or be what a boot entry says. So a converted image stands for it, as one does that was pulled
//! ([`crate::layout::pulled`]), if the layout still has all chunks that its blobs are made of.

use std::collections::HashSet;

use anyhow::Result;
use puzzlefs_format::{limits, Digest};
use serde::Serialize;
use serde_json::Value;

use crate::base::error::is_trouble;
use crate::chunks::compose::{ends_of, ends_there, keep_ends, loose_of};
use crate::chunks::pack::End;
use crate::layout::manifest::{self, Descriptor};
use crate::layout::pulled::Record;
use crate::layout::staging::Staging;
use crate::layout::Layout;

/// What is kept of the manifest that an image had at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its digest, in hexadecimal.
    pub manifest: String,
    /// Whether the image stands for it.
    pub kept: bool,
    /// Chunks of its blobs that no image has any more: from this layout alone it cannot be made again.
    pub missing_chunks: u64,
    /// Their bytes.
    pub missing_bytes: u64,
}

/// Stores the manifest `old` with other `layers`, if it has others. Gives its digest and size, and what is
/// kept of the one that was there at first. `stored` are the chunks that the layout has afterwards.
pub(super) fn with_layers(
    old: &Digest,
    layers: &[Descriptor],
    stored: &HashSet<Digest>,
    staging: &Staging<'_>,
) -> Result<((Digest, u64), Option<Origin>)> {
    let layout = staging.layout();
    let text = layout.read_blob(old, limits::MAX_MANIFEST_BYTES as u64)?;
    let (origin, ends) = match known(layout, &text)? {
        Some((first, pulled, _)) if has_layers(&pulled, layers)? => {
            // All its blobs are there again.
            return Ok(((first, pulled.len() as u64), None));
        }
        Some((first, pulled, ends)) => {
            let origin = Origin::new(first, &pulled, ends.as_deref(), stored)?;
            (Some(origin), None)
        }
        None if has_layers(&text, layers)? => (None, None),
        None => {
            let ends = sound(ends_there(layout, &text))?;
            let origin = Origin::new(*old, &text, ends.as_deref(), stored)?;
            (Some(origin), ends)
        }
    };
    // By others a manifest may be written in another way.
    let mut new = match has_layers(&text, layers)? {
        true => text,
        false => manifest::with_layers(&text, layers)?,
    };
    if let (Some(ends), true) = (ends, origin.as_ref().is_some_and(|origin| origin.kept)) {
        let ends = keep_ends(ends.iter().map(|(_, end)| end));
        let indexes = staging.put_with(|out| Ok(out.write_all(&ends)?))?;
        let record = Record {
            manifest: *old,
            indexes: indexes.digest,
        };
        new = record.add_to(&new)?;
    }
    let blob = staging.put_with(|out| Ok(out.write_all(&new)?))?;
    Ok(((blob.digest, blob.size), origin))
}

type Ends = Vec<(Digest, End)>;
/// A manifest: its digest, its text, and the ends of its packs, if they can be used.
type Known = (Digest, Vec<u8>, Option<Ends>);

/// The manifest that `text` says to stand for, if it does.
fn known(layout: &Layout, text: &[u8]) -> Result<Option<Known>> {
    let Some((record, pulled)) = layout.pulled(text)? else {
        return Ok(None);
    };
    let ends = sound(ends_of(layout, &record.indexes, &pulled))?;
    Ok(Some((record.manifest, pulled, ends)))
}

/// Whether these are the layers that a manifest has.
fn has_layers(text: &[u8], layers: &[Descriptor]) -> Result<bool> {
    let new = manifest::with_layers(text, layers)?;
    Ok(serde_json::from_slice::<Value>(&new)? == serde_json::from_slice::<Value>(text)?)
}

/// Nothing of what is damaged.
fn sound<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(fault) if is_trouble(&fault) => Err(fault),
        Err(_) => Ok(None),
    }
}

impl Origin {
    /// Of the manifest `text`, whose packs have these ends, if they have any that can be used.
    fn new(
        manifest: Digest,
        text: &[u8],
        ends: Option<&[(Digest, End)]>,
        stored: &HashSet<Digest>,
    ) -> Result<Self> {
        let packed = ends.into_iter().flatten().flat_map(|(_, end)| &end.entries);
        let packed = packed.map(|entry| (entry.digest, u64::from(entry.size)));
        let mut missing: HashSet<(Digest, u64)> = packed.chain(loose_of(text)?).collect();
        missing.retain(|(chunk, _)| !stored.contains(chunk));
        let is_usable = ends.is_some_and(|ends| ends.iter().all(|(_, end)| end.is_dense()));
        Ok(Origin {
            manifest: manifest.to_string(),
            kept: is_usable && missing.is_empty(),
            missing_chunks: u64::try_from(missing.len())?,
            missing_bytes: missing
                .iter()
                .fold(0, |sum: u64, (_, size)| sum.saturating_add(*size)),
        })
    }
}
