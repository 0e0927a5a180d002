// SPDX-License-Identifier: Apache-2.0
//! `docker-archive:`: what `docker save` and `podman save` write: manifest.json, which names the members
//! that hold the config and the layers.

use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use anyhow::{bail, ensure, Context, Result};
use oci_spec::image::ImageConfiguration;
use puzzlefs_format::Digest;
use serde::Deserialize;

use super::image::{Image, Layer};
use super::members::Members;
use crate::base::error::{damage, Error};
use crate::base::text;
use crate::layers::Role;
use crate::layout::manifest::MAX_DOCUMENT;

/// An image in manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Opens an image of an archive; without a name the only one.
pub fn open(file: &Path, name: Option<&str>) -> Result<Image> {
    let members = Rc::new(Members::open(file)?);
    let text = members.text("manifest.json", MAX_DOCUMENT)?;
    let parsed = serde_json::from_slice(&text);
    let images: Vec<Saved> =
        damage(parsed.with_context(|| format!("manifest.json of {}", file.display())))?;
    let saved = choose(&images, name, file)?;
    let config = members.text(&saved.config, MAX_DOCUMENT)?;
    let parsed: ImageConfiguration = damage(serde_json::from_slice(&config).context("the config"))?;
    let diff_ids = parsed.rootfs().diff_ids();
    ensure!(
        diff_ids.len() == saved.layers.len(),
        "{} layers, of which the config names {}",
        saved.layers.len(),
        diff_ids.len()
    );
    let layers = saved.layers.iter().zip(diff_ids);
    let layers = layers.map(|(layer, diff_id)| of_layer(&members, layer, diff_id));
    Ok(Image {
        layers: layers.collect::<Result<_>>()?,
        config: Some(config),
        annotations: Vec::new(),
        platform: None,
    })
}

/// The image that a name of those in the archive means; without a name the only one.
fn choose<'a>(images: &'a [Saved], name: Option<&str>, file: &Path) -> Result<&'a Saved> {
    let tags = |image: &'a Saved| image.repo_tags.iter().flatten().map(String::as_str);
    // A name may be short: `app` is also that of an image under any registry's and directory's.
    let is_named = |image: &'a Saved, name: &str| {
        tags(image).any(|tag| {
            let tag = tag.strip_suffix(":latest").unwrap_or(tag);
            let rest = tag.strip_suffix(name.strip_suffix(":latest").unwrap_or(name));
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
    };
    let mut named = images.iter();
    let found = match name {
        Some(name) => named.find(|image| is_named(image, name)),
        None => named.next().filter(|_| images.len() == 1),
    };
    found.ok_or_else(|| {
        let all: Vec<&str> = images.iter().flat_map(tags).collect();
        let all = all.join(" ");
        let text = format!(
            "{}: name one of its images: {}",
            file.display(),
            text::quoted(all.as_bytes())
        );
        Error::not_found(text).into()
    })
}

/// A layer, whose only digest is that of its tar: if it is compressed, there is none of what lies there.
fn of_layer(members: &Rc<Members>, name: &str, diff_id: &str) -> Result<Layer> {
    let mut begin = [0; 4];
    let mut blob = members.open_member(name)?;
    let read = blob.read(&mut begin)?;
    let is_compressed =
        begin[..read].starts_with(&[0x1f, 0x8b]) || begin == [0x28, 0xb5, 0x2f, 0xfd];
    let digest = match diff_id
        .strip_prefix("sha256:")
        .map(|hex| Digest::parse(hex.as_bytes()))
    {
        Some(Ok(digest)) => Some(digest).filter(|_| !is_compressed),
        _ => bail!(
            "a digest that is no sha256: {}",
            text::quoted(diff_id.as_bytes())
        ),
    };
    let (members, name) = (members.clone(), name.to_owned());
    Ok(Layer {
        role: Role::Layer,
        digest,
        blob: Box::new(move || members.open_member(&name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_short() {
        let image = |tag: &str| Saved {
            config: tag.into(),
            repo_tags: Some(vec![tag.into()]),
            layers: Vec::new(),
        };
        let images = [
            "host.example/library/app:5",
            "localhost/tool:latest",
            "a/b:1",
        ]
        .map(image);
        let found = |name: Option<&str>| {
            let found = choose(&images, name, Path::new("x.tar"));
            found.ok().map(|image| image.config.clone())
        };
        let app = Some("host.example/library/app:5".to_owned());
        for name in ["app:5", "library/app:5", "host.example/library/app:5"] {
            assert_eq!(found(Some(name)), app, "{name}");
        }
        let tool = Some("localhost/tool:latest".to_owned());
        for name in ["tool", "tool:latest", "localhost/tool"] {
            assert_eq!(found(Some(name)), tool, "{name}");
        }
        for name in [
            None,
            Some("app"),
            Some("pp:5"),
            Some("ool"),
            Some("b"),
            Some(""),
        ] {
            assert_eq!(found(name), None, "{name:?}");
        }
    }
}
