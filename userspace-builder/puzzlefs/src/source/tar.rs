// SPDX-License-Identifier: Apache-2.0
//! `tar:` and `-`: a tar of a tree, which is an image of one layer that hides nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{bail, Context, Result};

use super::image::{Blob, Image, Layer};
use crate::layers::Role;

/// The one in a file.
pub fn open(path: &Path) -> Image {
    let path = path.to_owned();
    let open = move || -> Result<Box<dyn Read>> {
        let opened = File::open(&path);
        Ok(Box::new(
            opened.with_context(|| format!("opening {}", path.display()))?,
        ))
    };
    plain(Box::new(open))
}

/// The one on standard input.
pub fn of_stdin() -> Image {
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
        platform: None,
    }
}
