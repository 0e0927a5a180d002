// SPDX-License-Identifier: Apache-2.0
//! What the entries of a layout's index.json lead to, ordinary OCI images and nested
//! indexes among them.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;
use puzzlefs_format::{limits, Digest};
use serde_json::Value;

use crate::base::error::{Error, Result, Where};
use crate::layout::pulled::Record;
use crate::layout::Layout;

/// The media type of what a pull has kept.
const KEPT: &str = "application/octet-stream";

/// What can be reached in a layout.
#[derive(Default)]
pub struct Reach {
    /// The blobs with a sha256, there or not, and the media type that they are said to have.
    pub blobs: BTreeMap<Digest, String>,
    /// Documents that are there and cannot be read, so that it is not known what they lead to.
    pub faults: Vec<Error>,
    /// Manifests and indexes among the blobs.
    documents: HashSet<Digest>,
}

impl Reach {
    /// Follows all entries of `layout`'s index.json.
    pub fn of(layout: &Layout) -> Result<Self> {
        Self::from(layout, &layout.index()?.unwrap_or_default())
    }

    /// Follows all entries of another `index` of the same layout.
    pub fn from(layout: &Layout, index: &Value) -> Result<Self> {
        let mut reach = Reach::default();
        let mut documents = Vec::new();
        reach.document(index, &mut documents);
        while let Some(digest) = documents.pop() {
            // A layout need not have all that an index lists: the other architectures, say.
            if !layout.names_blob(&digest)? {
                continue;
            }
            let limit = limits::MAX_MANIFEST_BYTES as u64;
            let read = layout.read_blob(&digest, limit).and_then(|text| {
                serde_json::from_slice(&text)
                    .map_err(Error::damaged)
                    .with_context(|| format!("parsing sha256:{digest}"))
                    .of(&digest)
            });
            match read {
                Ok(document) => reach.document(&document, &mut documents),
                Err(fault) => reach.faults.push(fault),
            }
        }
        Ok(reach)
    }

    /// The blobs that are said to be of a media type, in order of their digests.
    pub fn with_type<'a>(&'a self, media_type: &'a str) -> impl Iterator<Item = Digest> + 'a {
        let of_type = self.blobs.iter().filter(move |(_, t)| *t == media_type);
        of_type.map(|(digest, _)| *digest)
    }

    /// Notes all descriptors in a manifest or an index, and which of them are such again.
    fn document(&mut self, document: &Value, documents: &mut Vec<Digest>) {
        let mut values = vec![(document, false)];
        while let Some((value, further)) = values.pop() {
            match value {
                Value::Array(list) => values.extend(list.iter().map(|value| (value, further))),
                Value::Object(map) => {
                    if further && !value["digest"].is_string() {
                        let text = format!("a descriptor without a digest: {value}");
                        self.faults.push(Error::damaged(text));
                    }
                    if let Some(digest) = value["digest"].as_str() {
                        let media_type = value["mediaType"].as_str().unwrap_or_default();
                        let further = further && media_type.ends_with("json");
                        self.descriptor(digest, media_type, further, documents);
                    }
                    let is_further = |key: &str| key == "manifests" || key == "subject";
                    // What a pull has kept. Not as a document: what it lists need not be here.
                    if let Some(record) = Record::of_value(value) {
                        for digest in [record.manifest, record.indexes] {
                            let kept = self.blobs.entry(digest);
                            kept.or_insert_with(|| KEPT.to_owned());
                        }
                    }
                    values.extend(map.iter().map(|(key, value)| (value, is_further(key))));
                }
                _ => {}
            }
        }
    }

    fn descriptor(&mut self, text: &str, media_type: &str, further: bool, to: &mut Vec<Digest>) {
        match Digest::parse(text.as_bytes()) {
            Ok(digest) => {
                self.blobs.insert(digest, media_type.to_owned());
                if further && self.documents.insert(digest) {
                    to.push(digest);
                }
            }
            Err(e) if further => {
                let text = format!("the manifest {text}: {e}");
                self.faults.push(Error::damaged(text));
            }
            Err(_) => {}
        }
    }
}
