// SPDX-License-Identifier: Apache-2.0
//! How much of the images of a layout is there.

use puzzlefs_format::{limits, Digest, Manifest, MEDIA_TYPE_PACK};
use serde::Serialize;

use crate::base::error::Result;
use crate::chunks::pack::End;
use crate::chunks::presence::Presence;
use crate::layout::Layout;

/// A pack of which not all is there.
#[derive(Clone, Debug, Serialize)]
pub struct LazyPack {
    /// Its digest, in hexadecimal.
    pub pack: String,
    /// Its chunks.
    pub chunks: u64,
    /// Those that are there.
    pub chunks_here: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of those that are there.
    pub bytes_here: u64,
    /// Where it can be had.
    pub sources: Vec<String>,
}

/// An image.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// Its tags.
    pub tags: Vec<String>,
    /// Digest of its manifest, in hexadecimal.
    pub manifest: String,
    /// Its packs.
    pub packs: u64,
    /// Bytes of all its packs.
    pub bytes: u64,
    /// Bytes of them that are there.
    pub bytes_here: u64,
    /// Those of which not all is there.
    pub lazy: Vec<LazyPack>,
}

/// A layout.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Its PuzzleFS images.
    pub images: Vec<Image>,
}

/// Looks how much is there.
pub fn status(layout: &Layout) -> Result<Status> {
    let mut status = Status::default();
    for (manifest, tag) in layout.manifests()? {
        let known = status.images.iter_mut();
        let mut known = known.filter(|image| image.manifest == manifest.to_string());
        if let Some(image) = known.next() {
            image.tags.extend(tag);
            continue;
        }
        let text = layout.read_blob(&manifest, limits::MAX_MANIFEST_BYTES as u64)?;
        let Ok(parsed) = Manifest::parse(&text) else {
            continue;
        };
        let mut image = Image {
            tags: tag.into_iter().collect(),
            manifest: manifest.to_string(),
            packs: 0,
            bytes: 0,
            bytes_here: 0,
            lazy: Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        for layer in parsed.layers() {
            let layer = layer?;
            if layer.media_type != MEDIA_TYPE_PACK || !seen.insert(layer.digest) {
                continue;
            }
            image.packs += 1;
            image.bytes = image.bytes.saturating_add(layer.size);
            let lazy = pack(layout, &layer.digest)?;
            let missing = lazy.as_ref().map_or(0, |pack| pack.bytes - pack.bytes_here);
            image.bytes_here = image
                .bytes_here
                .saturating_add(layer.size.saturating_sub(missing));
            image.lazy.extend(lazy);
        }
        status.images.push(image);
    }
    Ok(status)
}

/// How much of a pack is there, if not all is.
fn pack(layout: &Layout, digest: &Digest) -> Result<Option<LazyPack>> {
    let Some(record) = Presence::load(layout, digest)? else {
        return Ok(None);
    };
    let end = End::of_file(&layout.open_blob(digest)?)?;
    let is_of = record.is_of(&end);
    let mut found = LazyPack {
        pack: digest.to_string(),
        chunks: 0,
        chunks_here: 0,
        bytes: 0,
        bytes_here: 0,
        sources: record.sources.clone(),
    };
    for (number, chunk) in end.entries.iter().enumerate() {
        let is_here = is_of && record.has(number);
        found.chunks += 1;
        found.bytes += u64::from(chunk.size);
        found.chunks_here += u64::from(is_here);
        found.bytes_here += if is_here { u64::from(chunk.size) } else { 0 };
    }
    Ok(Some(found))
}
