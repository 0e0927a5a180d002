// SPDX-License-Identifier: Apache-2.0
//! Ordinary images, wherever they are: `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:TAG`,
//! `dir:DIR`, `docker://HOST/REPOSITORY:TAG`, `tar:FILE`, as skopeo calls them (containers-transports(5)).
//!
//! - this file: from a name to an image;
//! - `name`: what the command line calls it;
//! - `layout`, `members`, `docker`, `dir`, `registry`, `tar`: where its blobs are;
//! - `manifest`: from a manifest to an image; `platform`: which one of several;
//! - `image`: what it is; `checked`: its blobs have their digests.

mod checked;
mod dir;
mod docker;
mod image;
mod layout;
mod manifest;
mod members;
mod name;
mod platform;
mod registry;
mod tar;

use crate::base::error::Result;
use crate::registry::Options;

pub use image::{Image, Layer};
pub use name::Name;
pub use platform::Platform;

/// Opens the image that `name` names, of an index the one for `platform`.
///
/// # Errors
///
/// What is not there, or is no ordinary image.
pub fn open(name: &Name, platform: &Platform, options: &Options) -> Result<Image> {
    Ok(match name {
        Name::Oci(reference) => layout::open(reference, platform)?,
        Name::OciArchive(file, tag) => layout::open_archive(file, tag.as_deref(), platform)?,
        Name::DockerArchive(file, tag) => docker::open(file, tag.as_deref())?,
        Name::Dir(path) => dir::open(path, platform)?,
        Name::Docker(reference) => registry::open(reference, platform, options)?,
        Name::Tar(path) => tar::open(path),
        Name::Stdin => tar::of_stdin(),
    })
}
