// SPDX-License-Identifier: Apache-2.0
//! What index.json of a layout names.

use puzzlefs_format::limits;
use serde::Serialize;

use crate::base::error::Result;
use crate::image::Image;
use crate::layout::index::Entry;
use crate::layout::Layout;

/// An entry of index.json.
#[derive(Clone, Debug, Serialize)]
pub struct Tag {
    /// Its tag, if it has one.
    pub tag: Option<String>,
    /// Digest of what it names, in hexadecimal.
    pub digest: String,
    /// Bytes of that.
    pub size: u64,
    /// The media type that it is said to have.
    pub media_type: String,
    /// What it is.
    pub kind: Kind,
    /// Digest of the manifest that it stands for, in hexadecimal: it was pulled, and not all of that is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulled: Option<String>,
}

/// What an entry of index.json names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A PuzzleFS image.
    Puzzlefs,
    /// An index of images.
    Index,
    /// Another image, or another artifact.
    Other,
    /// The layout does not have it.
    Missing,
    /// It is there, and cannot be read or is malformed.
    Broken,
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Puzzlefs => "puzzlefs",
            Kind::Index => "index",
            Kind::Other => "other",
            Kind::Missing => "missing",
            Kind::Broken => "broken",
        }
    }

    fn of(layout: &Layout, entry: &Entry) -> Self {
        match layout.names_blob(&entry.digest) {
            Ok(true) if entry.is_index() => Kind::Index,
            Ok(true) => match Image::is_there(layout, &entry.digest) {
                Ok(true) => Kind::Puzzlefs,
                Ok(false) => Kind::Other,
                Err(_) => Kind::Broken,
            },
            Ok(false) => Kind::Missing,
            Err(_) => Kind::Broken,
        }
    }
}

fn pulled(layout: &Layout, entry: &Entry) -> Option<String> {
    let text = layout.read_blob(&entry.digest, limits::MAX_MANIFEST_BYTES as u64);
    let (record, _) = layout.pulled(&text.ok()?).ok()??;
    Some(record.manifest.to_string())
}

/// All entries, in order of index.json.
pub fn tags(layout: &Layout) -> Result<Vec<Tag>> {
    let entries = layout.entries()?.into_iter();
    let tags = entries.map(|entry| Tag {
        kind: Kind::of(layout, &entry),
        pulled: pulled(layout, &entry),
        digest: entry.digest.to_string(),
        size: entry.size,
        media_type: entry.media_type,
        tag: entry.tag,
    });
    Ok(tags.collect())
}
