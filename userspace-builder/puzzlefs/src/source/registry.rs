// SPDX-License-Identifier: Apache-2.0
//! `docker://`: an image of a registry, whose layers are read as they come.

use std::io::Read;
use std::rc::Rc;

use anyhow::Result;
use puzzlefs_format::Digest;

use super::image::{Blobs, Image};
use super::manifest;
use crate::layout::platform::Choice;
use crate::layout::reference::Name;
use crate::registry::{Options, Reference, Sources};

/// The blobs of a repository.
struct Repository(Sources);

impl Blobs for Repository {
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read>> {
        Ok(Box::new(self.0.blob(digest, None)?))
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        Ok(self.0.manifest(&Name::Digest(*digest))?.text)
    }
}

/// Opens an image of a registry.
pub fn open(reference: &Reference, choice: &Choice, options: &Options) -> Result<Vec<Image>> {
    let sources = Sources::open(&reference.repository, options)?;
    let text = sources.manifest(&reference.name)?.text;
    manifest::images(&text, Rc::new(Repository(sources)), choice)
}
