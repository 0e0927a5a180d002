// SPDX-License-Identifier: Apache-2.0
//! Ordinary images, wherever they are: `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:TAG`,
//! `dir:DIR`, `tar:FILE`, as skopeo calls them (containers-transports(5)).
//!
//! - this file: an image, and the blobs that its layers are;
//! - `name`: what the command line calls it;
//! - `manifest`: from a manifest to an image; `platform`: which one of several;
//! - `layout`, `members`, `docker`, `dir`: where its blobs are.

mod checked;
mod dir;
mod docker;
mod layout;
mod manifest;
mod members;
mod name;
mod platform;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use puzzlefs_format::Digest;

use crate::base::error::{self, Error};
use crate::layers::Role;

pub(crate) use checked::Checked;
pub use name::Name;
pub use platform::Platform;

/// Bytes of a manifest, an index or a config, at most, as registries have it.
const MAX_TEXT: u64 = 4 << 20;

/// An ordinary image.
pub struct Image {
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Its config as it is stored; none for a tar.
    pub config: Option<Vec<u8>>,
    /// The annotations of its manifest.
    pub annotations: Vec<(String, String)>,
}

/// A layer.
pub struct Layer {
    /// How it is to be read.
    pub(crate) role: Role,
    /// What its blob must have.
    digest: Option<Digest>,
    blob: Box<dyn Blob>,
}

/// Something that can be read from its beginning, more than once.
trait Blob {
    fn open(&self) -> Result<Box<dyn Read>>;
}

impl<F: Fn() -> Result<Box<dyn Read>>> Blob for F {
    fn open(&self) -> Result<Box<dyn Read>> {
        self()
    }
}

/// Blobs by their digests.
trait Blobs {
    /// A blob; what is read from it is not checked yet.
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read>>;

    /// The whole content of a small blob, which has its digest.
    fn text(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let blob = Checked::new(self.open(digest)?.take(MAX_TEXT + 1), Some(*digest));
        let read = { blob }.read_to_end(&mut text);
        read.with_context(|| format!("reading the blob sha256:{digest}"))?;
        Ok(text)
    }
}

/// Opens the image that `name` names, of an index the one for `platform`.
///
/// # Errors
///
/// What is not there, or is no ordinary image.
pub fn open(name: &Name, platform: &Platform) -> error::Result<Image> {
    Ok(match name {
        Name::Oci(reference) => layout::open(reference, platform)?,
        Name::OciArchive(file, tag) => layout::open_archive(file, tag.as_deref(), platform)?,
        Name::DockerArchive(file, tag) => docker::open(file, tag.as_deref())?,
        Name::Dir(path) => dir::open(path, platform)?,
        Name::Tar(path) => of_tar(path),
        Name::Stdin => of_stdin(),
    })
}

/// A tar of a tree.
fn of_tar(path: &Path) -> Image {
    let path = path.to_owned();
    let open = move || -> Result<Box<dyn Read>> {
        let opened = File::open(&path);
        Ok(Box::new(
            opened.with_context(|| format!("opening {}", path.display()))?,
        ))
    };
    plain(Box::new(open))
}

fn of_stdin() -> Image {
    let used = AtomicBool::new(false);
    plain(Box::new(move || -> Result<Box<dyn Read>> {
        if used.swap(true, Ordering::Relaxed) {
            bail!("standard input can be read once only: write it into a file first");
        }
        Ok(Box::new(io::stdin().lock()))
    }))
}

fn plain(blob: Box<dyn Blob>) -> Image {
    let (role, digest) = (Role::Tree, None);
    let layers = vec![Layer { role, digest, blob }];
    Image {
        layers,
        config: None,
        annotations: Vec::new(),
    }
}

impl Layer {
    /// Reads the layer: gives its blob to `read`, more than once if that asks for it.
    ///
    /// # Errors
    ///
    /// Those of `read`; and if not all of the blob was read, or it does not have its digest.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&dyn Fn() -> Result<Checked>) -> Result<T>,
    ) -> Result<T> {
        let (opened, checked) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
        let open = || -> Result<Checked> {
            opened.fetch_add(1, Ordering::Relaxed);
            let mut blob = Checked::new(self.blob.open()?, self.digest);
            blob.count(&checked);
            Ok(blob)
        };
        let Some(digest) = self.digest else {
            return read(&open);
        };
        let result = read(&open).with_context(|| format!("the layer sha256:{digest}"))?;
        if opened.into_inner() != checked.load(Ordering::Relaxed) {
            let text = format!("the layer sha256:{digest} has something behind its end");
            return Err(Error::damaged(text).into());
        }
        Ok(result)
    }
}
