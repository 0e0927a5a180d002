// SPDX-License-Identifier: Apache-2.0
//! The index.json of a layout that is somewhere else: what a tag names there.

use oci_spec::image::MediaType;
use serde_json::{json, Value};

use super::index::{is_named, Entry};
use super::reference::Name;
use crate::base::error::{Error, Result};
use crate::base::text;

/// The media type of an index (image specification, "Image Index").
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a tag names.
pub enum Tagged {
    /// One thing.
    One(Entry),
    /// Several: the text of an index that has just these.
    Several(Vec<u8>),
}

/// What `tag` names in the text of an index.json.
///
/// # Errors
///
/// If there is no such tag ([`Error::NotFound`]), or the text is no index ([`Error::Damaged`]).
pub fn tagged(index: &[u8], tag: &str) -> Result<Tagged> {
    let wrong = |e| Error::damaged(format!("index.json: {e}"));
    let index: Value = serde_json::from_slice(index).map_err(wrong)?;
    let all = match &index["manifests"] {
        Value::Array(all) => &all[..],
        Value::Null => &[],
        _ => return Err(Error::damaged("index.json: manifests is no array")),
    };
    let name = Name::Tag(tag.to_owned());
    let named: Vec<&Value> = all.iter().filter(|entry| is_named(entry, &name)).collect();
    match &named[..] {
        [] => {
            let tag = text::quoted(tag.as_bytes());
            Err(Error::not_found(format!("index.json has no tag {tag}")))
        }
        [entry] => Entry::of(entry).map(Tagged::One),
        _ => {
            let several = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": named });
            let several = serde_json::to_vec(&several);
            Ok(Tagged::Several(several.map_err(Error::damaged)?))
        }
    }
}
