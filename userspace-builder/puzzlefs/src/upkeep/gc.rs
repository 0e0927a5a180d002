// SPDX-License-Identifier: Apache-2.0
//! Removing the blobs that no entry of index.json leads to, and what killed builds left.
//!
//! A build holds a lock from its first look at the blobs until its tag is in place, so what it
//! adds or relies on is not garbage to anybody. Other tools know no lock. Only
//! files that nothing leads to are removed, so a crash at any moment leaves the layout sound.

use std::collections::HashSet;

use anyhow::Context;
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde::Serialize;
use serde_json::Value;

use crate::base::error::{damage, is_trouble, Error, Result};
use crate::base::progress::Progress;
use crate::image::Image;
use crate::layout::index::no_images;
use crate::layout::reach::Reach;
use crate::layout::staging::remove_abandoned;
use crate::layout::Layout;

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Images that are damaged, each with the reason. What their manifests list stays.
    pub broken: Vec<String>,
    /// Whether nothing was in fact removed.
    pub dry_run: bool,
    /// Their digests, in hexadecimal and in order.
    pub removed: Vec<String>,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Bytes of files that killed builds left.
    pub abandoned_bytes: u64,
    /// Blobs that stay.
    pub kept_blobs: u64,
    /// Their bytes.
    pub kept_bytes: u64,
}

/// Removes what nothing leads to; with `dry_run` it only says what that is.
pub fn gc(layout: &Layout, dry_run: bool, progress: &dyn Progress) -> Result<Report> {
    let _owned = layout.own_blobs(progress)?;
    let index = match layout.index()? {
        Some(index) => index,
        // A first build that was interrupted may have left a layout without one, and without blobs.
        None if layout.blobs()?.is_empty() => no_images(),
        None => {
            let text = format!(
                "{} has no index.json, which says what is in use: nothing was removed",
                layout.path().display()
            );
            return Err(Error::refused(text).at(layout.path()));
        }
    };
    collect(layout, &index, dry_run)
}

/// The same, for an `index` that index.json is to be. The caller holds the lock.
pub(super) fn collect(layout: &Layout, index: &Value, dry_run: bool) -> Result<Report> {
    if !layout.owns_blobs()? {
        let text = format!(
            "the blobs of {} lie elsewhere, by a symbolic link, where other layouts may have \
             theirs: nothing was removed",
            layout.path().display()
        );
        return Err(Error::refused(text).at(layout.path()));
    }
    let (in_use, broken) = in_use(layout, index).context(
        "nothing was removed, as it is not known what is in use; restore what is missing, or \
         remove its entry from index.json: puzzlefs rm OCI_DIR@sha256:DIGEST",
    )?;
    let mut report = Report {
        dry_run,
        broken,
        abandoned_bytes: remove_abandoned(layout, dry_run) + layout.remove_temporary(dry_run)?,
        ..Report::default()
    };
    let blobs = layout.blobs()?;
    if !dry_run {
        // What a pull that was killed meant to make.
        let is_there = |pack: &Digest| {
            blobs
                .binary_search_by_key(pack, |(digest, _)| *digest)
                .is_ok()
        };
        let records = layout.lazy_packs()?.into_iter();
        let mut orphans = records.filter(|pack| !is_there(pack));
        orphans.try_for_each(|pack| layout.forget_lazy(&pack))?;
    }
    for (digest, bytes) in blobs {
        if in_use.contains(&digest) {
            report.kept_blobs += 1;
            report.kept_bytes += bytes;
            continue;
        }
        if !dry_run {
            layout.remove_blob(&digest)?;
        }
        report.removed.push(digest.to_string());
        report.removed_bytes += bytes;
    }
    Ok(report)
}

/// What `index` leads to, and which images are damaged.
///
/// # Errors
///
/// If a manifest or an index cannot be read: it may lead to anything. And if an image is not known to
/// be damaged, but could not be read.
fn in_use(layout: &Layout, index: &Value) -> Result<(HashSet<Digest>, Vec<String>)> {
    let reach = Reach::from(layout, index)?;
    let mut in_use: HashSet<Digest> = reach.blobs.keys().copied().collect();
    let mut broken = Vec::new();
    for manifest in reach.with_type(MEDIA_TYPE_MANIFEST) {
        if !layout.names_blob(&manifest)? {
            continue;
        }
        // Its manifest was read, and what that lists is in use.
        match unlisted(layout, &manifest) {
            Ok(chunks) => in_use.extend(chunks),
            Err(error) => {
                let error = anyhow::Error::from(error);
                let error = error.context(format!("the image sha256:{manifest}"));
                // It is not known what it needs besides.
                if is_trouble(&error) {
                    return Err(error.into());
                }
                broken.push(format!("{error:#}"));
            }
        }
    }
    let fault = reach.faults.into_iter().next();
    damage(fault.map_or(Ok((in_use, broken)), |fault| Err(fault.into())))
}

/// The loose chunks of an image. Upstream's manifests of deltas do not list those of the base.
fn unlisted(layout: &Layout, manifest: &Digest) -> Result<Vec<Digest>> {
    let Some(image) = Image::with_manifest(layout, manifest)? else {
        return Ok(Vec::new());
    };
    let mut needed = image.blocks().to_vec();
    if image.rootfs()?.layers() > 1 {
        needed.extend(image.chunks()?);
    }
    // What is wrong with packs is not what matters here: they stay.
    let (places, _) = image.places()?;
    let loose = needed.iter().map(|(digest, _)| *digest);
    Ok(loose.filter(|chunk| places.of(chunk).is_empty()).collect())
}
