// SPDX-License-Identifier: Apache-2.0
//! The root filesystem, without any help of the machine: it is fetched and extracted into that of the container.
//!
//! What is fetched is kept until then in a layout in the container, or in a volume that is mounted in its place, and that
//! any number of containers may have at the same time. Whoever else can write to it may have put anything there: all is
//! read by the digest of the manifest, and checked.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::mounts;
use super::places::{AUTH, CACHE, CERTS, DIR};
use super::state::State;
use crate::base::error::{Error, Result, Where};
use crate::base::progress::Progress;
use crate::extract::{extract_with, Options};
use crate::image::Image;
use crate::layout::platform::Platform;
use crate::layout::reference::{Name, Reference};
use crate::layout::Layout;
use crate::pull::{self, Report};
use crate::registry::{self, Sources};

/// How the registry is spoken with.
pub(super) fn options(state: &State) -> registry::Options {
    let there = |path: &str| Some(PathBuf::from(path)).filter(|path| path.exists());
    registry::Options {
        plain_http: state.plain_http,
        auth_file: there(AUTH),
        cert_dir: there(CERTS),
        ..registry::Options::default()
    }
}

/// The layout in which chunks are that came, which is made if need be.
pub(super) fn cache() -> Result<Layout> {
    let cache = Path::new(CACHE);
    // Images may be for the eyes of who has pulled them only. What fails here is said by what comes next.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(cache);
    Layout::open_or_create(cache)
}

/// Extracts the image into the container's root, around all that is mounted in there.
pub(super) fn extract(state: &State, progress: &dyn Progress) -> Result<()> {
    let mounts = mounts::points()?;
    let cache = Path::new(CACHE);
    let layout = self::cache()?;
    let tag = format!("whole/sha256:{}", state.manifest);
    if is_here(&layout, state, &tag) {
        // Somebody may have taken chunks away since.
        match unpack(state, &mounts, progress) {
            Err(Error::Damaged(_) | Error::NotFound(_)) => {}
            done => return done,
        }
    }
    let report = pull(&layout, state, &tag, progress);
    let report = report
        .with_context(|| format!("fetching into {CACHE}"))
        .at(cache)?;
    progress.note(&format!(
        "{} of {} chunks fetched, {} bytes in {} requests",
        report.chunks_fetched,
        report.chunks_fetched + report.chunks_found,
        report.bytes_fetched,
        report.requests
    ));
    unpack(state, &mounts, progress)?;
    if !mounts
        .iter()
        .any(|point| Path::new("/").join(point) == cache)
    {
        // It is of no more use, and takes the container's room.
        let removed = std::fs::remove_dir_all(cache);
        removed
            .with_context(|| format!("removing {CACHE}"))
            .at(cache)?;
    }
    Ok(())
}

/// Whether all of the image was pulled at some time, by what the layout says.
fn is_here(layout: &Layout, state: &State, tag: &str) -> bool {
    let named = |name: &Name| layout.resolve(name).ok().map(|entry| entry.digest);
    let exact = named(&Name::Digest(state.manifest));
    exact.is_some() && exact == named(&Name::Tag(tag.to_owned()))
}

fn pull(layout: &Layout, state: &State, tag: &str, progress: &dyn Progress) -> Result<Report> {
    let sources = Sources::open(&state.source.repository, &options(state))?;
    let found = pull::find(&sources, &state.source.name, &Platform::here())?;
    found.pull(layout, tag, None, progress)
}

/// Extracts what is in the layout.
fn unpack(state: &State, mounts: &[PathBuf], progress: &dyn Progress) -> Result<()> {
    let image = Image::open(&Reference {
        layout: CACHE.into(),
        name: Name::Digest(state.manifest),
    })?;
    let own = Path::new(DIR).strip_prefix("/").map(Path::to_owned);
    let options = Options {
        force: true,
        keep: mounts.iter().cloned().chain(own.ok()).collect(),
        ..Options::default()
    };
    extract_with(&image, Path::new("/"), &options, progress)?;
    Ok(())
}
