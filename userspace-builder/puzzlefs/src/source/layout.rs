// SPDX-License-Identifier: Apache-2.0
//! Images in OCI layouts: directories, and tars of such.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{bail, Context, Result};
use oci_spec::image::{Descriptor, ImageIndex};
use puzzlefs_format::Digest;

use super::image::{Blobs, Image};
use super::manifest;
use super::members::Members;
use crate::base::error::{damage, Error};
use crate::base::text;
use crate::layout::manifest::MAX_DOCUMENT;
use crate::layout::platform::{Choice, Platform};
use crate::layout::reference::{Name, Reference};
use crate::layout::Layout;

/// Annotation of an index entry that holds its tag (OCI image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Blobs for Layout {
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read>> {
        Ok(Box::new(self.open_blob(digest)?))
    }
}

/// Opens an image of a layout; without a name the only one.
pub fn open(reference: &Result<Reference, PathBuf>, choice: &Choice) -> Result<Vec<Image>> {
    let (path, name) = match reference {
        Ok(reference) => (&reference.layout, Some(&reference.name)),
        Err(path) => (path, None),
    };
    let layout = Layout::open(path)?;
    let index = layout.index()?.unwrap_or_default();
    let digest = match name {
        Some(Name::Digest(digest)) => *digest,
        Some(Name::Tag(tag)) => find(&serde_json::to_vec(&index)?, Some(tag), path, choice)?,
        None => find(&serde_json::to_vec(&index)?, None, path, choice)?,
    };
    let text = Blobs::text(&layout, &digest)?;
    manifest::images(&text, Rc::new(layout), choice)
}

/// Opens an image of a layout in a tar; without a tag the only one.
pub fn open_archive(file: &Path, tag: Option<&str>, choice: &Choice) -> Result<Vec<Image>> {
    let members = Members::open(file)?;
    let index = members.text("index.json", MAX_DOCUMENT)?;
    let digest = find(&index, tag, file, choice)?;
    let text = Blobs::text(&members, &digest)?;
    manifest::images(&text, Rc::new(members), choice)
}

impl Blobs for Members {
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read>> {
        self.open_member(&format!("blobs/sha256/{digest}"))
    }
}

/// The digest of what an index.json has under a tag; without one of its only entry. Of several the first
/// for the platform that is wanted counts.
fn find(index: &[u8], tag: Option<&str>, path: &Path, choice: &Choice) -> Result<Digest> {
    let parsed = serde_json::from_slice(index);
    let index: ImageIndex =
        damage(parsed.with_context(|| format!("the index of {}", path.display())))?;
    let tag_of = |entry: &Descriptor| {
        let annotations = entry.annotations().as_ref();
        annotations.and_then(|all| all.get(REF_NAME).cloned())
    };
    let entries = index.manifests().iter();
    let named: Vec<&Descriptor> = match tag {
        Some(tag) => entries
            .filter(|entry| tag_of(entry).as_deref() == Some(tag))
            .collect(),
        None => entries.collect(),
    };
    let is_ours = |entry: &&&Descriptor| {
        let platform = entry.platform().as_ref().map(Platform::from);
        platform.is_some_and(|it| matches!(choice, Choice::One(ours) if ours.takes(&it)))
    };
    match named[..] {
        [single] => manifest::digest(single),
        [] => {
            let tags: Vec<String> = index.manifests().iter().flat_map(tag_of).collect();
            let text = match tag {
                Some(tag) => format!(
                    "{} has no tag {tag}; it has: {}",
                    path.display(),
                    shown(&tags)
                ),
                None => format!("{} has no image", path.display()),
            };
            Err(Error::not_found(text).into())
        }
        _ => match named.iter().find(is_ours) {
            Some(entry) if tag.is_some() => manifest::digest(entry),
            _ => {
                let tags: Vec<String> = named.into_iter().flat_map(tag_of).collect();
                bail!(
                    "{} has several images: name one of {}",
                    path.display(),
                    shown(&tags)
                )
            }
        },
    }
}

/// Tags for people, who may choose one.
fn shown(tags: &[String]) -> String {
    let tags: Vec<String> = tags
        .iter()
        .map(|tag| text::quoted(tag.as_bytes()))
        .collect();
    tags.join(" ")
}
