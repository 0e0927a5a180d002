// SPDX-License-Identifier: Apache-2.0
//! What the command line calls a place that images come from: TRANSPORT:PLACE, as skopeo does
//! (containers-transports(5)).

use std::fmt;
use std::str::FromStr;

use anyhow::Context;
use puzzlefs_format::Digest;

use super::layout::Local;
use super::s3::{self, S3};
use super::seam::Remote;
use super::ssh::{self, Ssh};
use crate::base::error::{Result, Where};
use crate::layout::reference::{Name, Reference};
use crate::layout::Layout;
use crate::registry::{self, web, Sources};

/// An image somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `oci:DIR:TAG`, `oci:DIR@sha256:DIGEST`.
    Oci(Reference),
    /// `docker://HOST/REPOSITORY:TAG`, `docker://HOST/REPOSITORY@sha256:DIGEST`, or a short name.
    Docker(registry::Reference),
    /// `https://HOST/DIR:TAG`, `https://HOST/DIR@sha256:DIGEST`, and the same with `http`.
    Web(web::Reference),
    /// `ssh://HOST/DIR:TAG`, `ssh://HOST/DIR@sha256:DIGEST`.
    Ssh(ssh::Reference),
    /// `s3://BUCKET/PREFIX:TAG`, `s3://BUCKET/PREFIX@sha256:DIGEST`.
    S3(s3::Reference),
}

/// A place that was opened.
pub struct Opened {
    /// Where the image is.
    pub remote: Box<dyn Remote>,
    /// What it is called there.
    pub name: Name,
}

const EXPECTED: &str =
    "expected docker://HOST/REPOSITORY:TAG, oci:DIR:TAG, https://HOST/DIR:TAG, ssh://HOST/DIR:TAG, \
    s3://BUCKET/PREFIX:TAG, or @sha256:DIGEST in place of :TAG; or a name without transport, as for podman pull";

/// Opens the place of an image.
///
/// # Errors
///
/// If there is no such layout, or files with credentials cannot be read. A registry is asked nothing yet.
pub fn open(place: &Place, options: &registry::Options) -> Result<Opened> {
    Ok(match place {
        Place::Oci(reference) => Opened {
            remote: Box::new(Local::new(Layout::open(&reference.layout)?)),
            name: reference.name.clone(),
        },
        Place::Docker(reference) => Opened {
            remote: Box::new(Sources::open(&reference.repository, options)?),
            name: reference.name.clone(),
        },
        Place::Web(reference) => Opened {
            remote: Box::new(Sources::of_layout(reference, options)?),
            name: reference.name.clone(),
        },
        Place::Ssh(reference) => Opened {
            remote: Box::new(Ssh::new(reference, options.retries)),
            name: reference.name.clone(),
        },
        Place::S3(reference) => Opened {
            remote: Box::new(S3::new(reference, options)?),
            name: reference.name.clone(),
        },
    })
}

impl Place {
    /// What kind of a place it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Place::Oci(_) => "oci",
            Place::Docker(_) => "registry",
            Place::Web(_) => "web",
            Place::Ssh(_) => "ssh",
            Place::S3(_) => "s3",
        }
    }

    /// What the command line calls an image of the same place by its digest, from any directory.
    ///
    /// # Errors
    ///
    /// If there is no such layout.
    pub fn at_digest(&self, manifest: &Digest) -> Result<String> {
        let mut place = self.clone();
        match &mut place {
            Place::Oci(reference) => {
                let path = reference.layout.canonicalize();
                let context = || format!("the layout {}", reference.layout.display());
                reference.layout = path.with_context(context).at(&reference.layout)?;
                reference.name = Name::Digest(*manifest);
            }
            Place::Docker(reference) => reference.name = Name::Digest(*manifest),
            Place::Web(reference) => reference.name = Name::Digest(*manifest),
            Place::Ssh(reference) => reference.name = Name::Digest(*manifest),
            Place::S3(reference) => reference.name = Name::Digest(*manifest),
        }
        Ok(place.to_string())
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("oci", place)) => Ok(Place::Oci(place.parse()?)),
            Some(("http" | "https", _)) => Ok(Place::Web(text.parse()?)),
            Some(("ssh", _)) => Ok(Place::Ssh(text.parse()?)),
            Some(("s3", _)) => Ok(Place::S3(text.parse()?)),
            Some(("docker", _)) => Ok(Place::Docker(text.parse()?)),
            _ => match registry::short::resolve(text) {
                Ok(reference) => Ok(Place::Docker(reference)),
                Err(error) => Err(format!("{error:#}; {EXPECTED}")),
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Oci(reference) => write!(f, "oci:{reference}"),
            Place::Docker(reference) => reference.fmt(f),
            Place::Web(reference) => reference.fmt(f),
            Place::Ssh(reference) => reference.fmt(f),
            Place::S3(reference) => reference.fmt(f),
        }
    }
}
