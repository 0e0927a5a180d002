// SPDX-License-Identifier: Apache-2.0
//! An ordinary image, and the blobs that its layers are.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use anyhow::{Context, Result};
use puzzlefs_format::Digest;

use super::checked::Checked;
use crate::base::error::{damage, Error};
use crate::layers::Role;
use crate::layout::manifest::MAX_DOCUMENT;

/// An ordinary image.
pub struct Image {
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Its config as it is stored; none for a tar.
    pub config: Option<Vec<u8>>,
    /// The annotations of its manifest.
    pub annotations: Vec<(String, String)>,
    /// What it is for, as an index says (OCI image-spec, image-index.md, "platform").
    pub platform: Option<serde_json::Value>,
}

/// A layer.
pub struct Layer {
    /// How it is to be read.
    pub(crate) role: Role,
    /// What its blob must have.
    pub(super) digest: Option<Digest>,
    /// Gives its blob.
    pub(super) blob: Box<dyn Blob>,
}

/// Something that can be read from its beginning, more than once.
pub trait Blob {
    /// Begins to read it.
    fn open(&self) -> Result<Box<dyn Read>>;
}

impl<F: Fn() -> Result<Box<dyn Read>>> Blob for F {
    fn open(&self) -> Result<Box<dyn Read>> {
        self()
    }
}

/// Blobs by their digests.
pub trait Blobs {
    /// A blob; what is read from it is not checked yet.
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read>>;

    /// A manifest that an index lists. Registries keep these apart from blobs.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.text(digest)
    }

    /// The whole content of a small blob, which has its digest.
    fn text(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let blob = Checked::new(self.open(digest)?.take(MAX_DOCUMENT + 1), Some(*digest));
        let read = { blob }.read_to_end(&mut text);
        damage(read.with_context(|| format!("reading the blob sha256:{digest}")))?;
        Ok(text)
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
