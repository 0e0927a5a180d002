// SPDX-License-Identifier: Apache-2.0
//! Ordinary images, wherever they are: `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:TAG`,
//! `dir:DIR`, `docker://HOST/REPOSITORY:TAG`, `tar:FILE`, as skopeo calls them (containers-transports(5)).
//!
//! - this file: from a name to an image;
//! - `name`: what the command line calls it;
//! - `layout`, `members`, `docker`, `dir`, `registry`, `tar`: where its blobs are;
//! - `manifest`: from a manifest to an image;
//! - `image`: what it is; `checked`: its blobs have their digests.

mod checked;
mod dir;
mod docker;
mod image;
mod layout;
mod manifest;
mod members;
mod name;
mod registry;
mod tar;

use anyhow::Context;

use crate::base::error::Result;
use crate::registry::Options;

pub use crate::layout::platform::{Choice, Platform};
pub use image::{Image, Layer};
pub use name::Name;

/// Opens the image that `name` names, of an index the one for `platform`.
///
/// # Errors
///
/// What is not there, or is no ordinary image.
pub fn open(name: &Name, platform: &Platform, options: &Options) -> Result<Image> {
    let images = open_all(name, &Choice::One(platform.clone()), options)?;
    let image = images.into_iter().next();
    Ok(image.context("no image")?)
}

/// The same of all images that are wanted, of which there is one at least.
pub fn open_all(name: &Name, choice: &Choice, options: &Options) -> Result<Vec<Image>> {
    Ok(match name {
        Name::Oci(reference) => layout::open(reference, choice)?,
        Name::OciArchive(file, tag) => layout::open_archive(file, tag.as_deref(), choice)?,
        Name::DockerArchive(file, tag) => vec![docker::open(file, tag.as_deref())?],
        Name::Dir(path) => dir::open(path, choice)?,
        Name::Docker(reference) => registry::open(reference, choice, options)?,
        Name::Tar(path) => vec![tar::open(path)],
        Name::Stdin => vec![tar::of_stdin()],
    })
}
