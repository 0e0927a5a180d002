// SPDX-License-Identifier: Apache-2.0
//! Removing the blobs that no entry of index.json leads to, and what killed builds left.
//!
//! A build holds a lock from its first look at the blobs until its tag is in place, so what it
//! adds or relies on is not garbage to anybody. Other tools know no lock. Only
//! files that nothing leads to are removed, so a crash at any moment leaves the layout sound.

use std::collections::HashSet;
use std::fs;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde::Serialize;

use crate::base::progress::Progress;
use crate::image::Image;
use crate::layout::reach::Reach;
use crate::layout::staging::remove_abandoned;
use crate::layout::Layout;

/// What was removed, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
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
    // A first build that was interrupted may have left a layout without one, and without blobs.
    ensure!(
        layout.index()?.is_some() || layout.blobs()?.is_empty(),
        "{} has no index.json, which says what is in use: nothing was removed",
        layout.path().display()
    );
    let in_use = in_use(layout).context(
        "nothing was removed, as it is not known what is in use; restore what is missing, or \
         remove its entry from index.json",
    )?;
    let mut report = Report {
        dry_run,
        abandoned_bytes: remove_abandoned(layout.path(), dry_run)
            + layout.remove_temporary(dry_run)?,
        ..Report::default()
    };
    for (digest, bytes) in layout.blobs()? {
        if in_use.contains(&digest) {
            report.kept_blobs += 1;
            report.kept_bytes += bytes;
            continue;
        }
        let path = layout.blob_path(&digest);
        if !dry_run {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        report.removed.push(digest.to_string());
        report.removed_bytes += bytes;
    }
    Ok(report)
}

/// What index.json leads to.
fn in_use(layout: &Layout) -> Result<HashSet<Digest>> {
    let reach = Reach::of(layout)?;
    let mut in_use: HashSet<Digest> = reach.blobs.keys().copied().collect();
    for manifest in reach.with_type(MEDIA_TYPE_MANIFEST) {
        if !layout.blob_path(&manifest).exists() {
            continue;
        }
        let Some(image) = Image::with_manifest(layout, &manifest)? else {
            continue;
        };
        // Upstream's manifests of deltas do not list the chunks of the base.
        let mut needed = image.blocks().to_vec();
        if image.rootfs()?.layers() > 1 {
            needed.extend(image.chunks()?);
        }
        // What is wrong with packs is not what matters here: they stay.
        let (places, _) = image.places()?;
        let loose = needed.iter().map(|(digest, _)| *digest);
        in_use.extend(loose.filter(|digest| places.of(digest).is_empty()));
    }
    reach.faults.into_iter().next().map_or(Ok(in_use), Err)
}
