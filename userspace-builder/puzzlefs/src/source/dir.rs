// SPDX-License-Identifier: Apache-2.0
//! `dir:`: manifest.json, and each blob in a file that has its digest for a name.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::Digest;

use super::image::{Blobs, Image};
use super::manifest;
use crate::host::dir::Dir;
use crate::layout::manifest::MAX_DOCUMENT;
use crate::layout::platform::Choice;

struct Files {
    path: PathBuf,
    dir: Dir,
}

impl Files {
    fn file(&self, name: &str) -> Result<std::fs::File> {
        let context = || format!("opening {}", self.path.join(name).display());
        self.dir.file(name).with_context(context)
    }
}

impl Blobs for Files {
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read>> {
        Ok(Box::new(self.file(&digest.to_string())?))
    }
}

/// Opens the image in a directory.
pub fn open(path: &Path, choice: &Choice) -> Result<Vec<Image>> {
    let dir = Dir::open(path).with_context(|| format!("opening {}", path.display()))?;
    let files = Files {
        path: path.to_owned(),
        dir,
    };
    let mut text = Vec::new();
    let mut file = files.file("manifest.json")?.take(MAX_DOCUMENT + 1);
    file.read_to_end(&mut text)?;
    ensure!(
        text.len() as u64 <= MAX_DOCUMENT,
        "manifest.json: more than {MAX_DOCUMENT} bytes"
    );
    manifest::images(&text, Rc::new(files), choice)
}
