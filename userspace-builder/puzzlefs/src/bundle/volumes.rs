// SPDX-License-Identifier: Apache-2.0
//! The volumes of an image: each a directory of the bundle, which has at first what the image has there.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{bail, Context, Result};
use puzzlefs_format::FileType;

use super::options::{mount_point, Bind};
use crate::base::error::Error;
use crate::base::progress::Progress;
use crate::base::text;
use crate::extract::{extract_with, Options};
use crate::image::Image;

/// Where `volumes` are to be below `dir`.
///
/// Each has a name of its own: where a volume is below another one, the container could lay a link in the way.
pub fn places(volumes: &[String], dir: &Path) -> Vec<Bind> {
    let bind = |(index, target): (usize, &String)| Bind {
        source: dir.join(index.to_string()),
        target: target.clone(),
        read_only: false,
    };
    volumes.iter().enumerate().map(bind).collect()
}

/// Makes `dir` and those below it, if there are some.
pub fn make(image: &Image, binds: &[Bind], dir: &Path, progress: &dyn Progress) -> Result<()> {
    if !binds.is_empty() {
        fs::create_dir(dir).with_context(|| text::path(dir))?;
    }
    binds.iter().try_for_each(|bind| {
        let made = fill(image, &bind.target, &bind.source, progress);
        made.with_context(|| format!("the volume {}", text::quoted(bind.target.as_bytes())))
    })
}

fn fill(image: &Image, target: &str, place: &Path, progress: &dyn Progress) -> Result<()> {
    let path = match image.resolve(target.as_bytes()) {
        Err(Error::NotFound(_)) => {
            let mut builder = fs::DirBuilder::new();
            return builder
                .mode(0o755)
                .create(place)
                .with_context(|| text::path(place));
        }
        path => path?,
    };
    // A link may lead to where no volume can be.
    let shown = std::str::from_utf8(&path).map_or(Ok(target.to_owned()), mount_point)?;
    if image.lookup(&path)?.file_type() != FileType::Dir {
        bail!(Error::refused(format!(
            "{} is no directory in the image",
            text::quoted(shown.as_bytes())
        )));
    }
    let below = Path::new(std::ffi::OsStr::from_bytes(
        path.strip_prefix(b"/").unwrap_or(&path),
    ));
    let whole = place.with_extension("part");
    let options = Options {
        paths: vec![below.to_owned()],
        ..Options::default()
    };
    extract_with(image, &whole, &options, progress)?;
    // All above it are directories of the image: no link was followed to it.
    fs::rename(whole.join(below), place).with_context(|| text::path(place))?;
    fs::remove_dir_all(&whole).with_context(|| text::path(&whole))
}
