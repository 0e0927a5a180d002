// SPDX-License-Identifier: Apache-2.0
//! Checking an image: every digest, all structure, every byte that a file refers to.
//!
//! - this file: all checks, in order;
//! - `metadata`: structure, and the tree that the names make;
//! - `packs`: packs and their indexes;
//! - `blobs`: what the manifest lists;
//! - `chunks`: the content of chunks;
//! - `pulled`: what a pull has kept of the manifest that it stands for;
//! - `report`: what a check found.

mod blobs;
mod chunks;
mod metadata;
mod packs;
mod pulled;
mod report;

use std::collections::{BTreeMap, HashSet};

use puzzlefs_format::Digest;

use crate::base::error::Result;
use crate::base::progress::{Progress, Unit};
use crate::image::Image;
use chunks::Fault;

pub use report::{Pulled, Report};

/// Checks an image that could be opened, which has checked manifest and Rootfs
/// against their digests.
pub fn verify(image: &Image, progress: &dyn Progress) -> Result<Report> {
    let mut report = Report {
        manifest: image.manifest_digest().to_string(),
        ..Report::default()
    };
    progress.phase("checking metadata", 0, Unit::Items);
    let rootfs = image.rootfs()?;
    let mut uses = BTreeMap::new();
    if let Err(fault) = metadata::vectors(image, &mut report) {
        report.fault(fault);
    }
    if let Err(fault) = metadata::tree(image, &mut report, &mut uses) {
        report.fault(fault);
    }
    let (places, faults) = image.places()?;
    faults.into_iter().for_each(|fault| report.fault(fault));
    // Opening the image has checked the blocks of its metadata.
    let used = uses.keys().chain(image.blocks());
    let used: HashSet<Digest> = used.map(|(digest, _)| *digest).collect();
    packs::check(image, &places, &used, &mut report, progress)?;
    blobs::check(image, &places, &used, &mut report)?;
    pulled::check(image, &mut report, progress)?;
    report.chunks = u64::try_from(uses.len())?;
    // What is still to be fetched says nothing.
    uses.retain(|(chunk, _), _| places.of(chunk).is_empty() || places.has_here(chunk));
    let verity = chunks::verity_data(&rootfs)?;
    progress.phase("checking chunks", u64::try_from(uses.len())?, Unit::Items);
    let mut unmeasured = 0u64;
    for fault in chunks::check(&places, rootfs.version(), &uses, &verity, progress)? {
        match fault {
            Fault::Of(fault) => report.fault(fault),
            Fault::Verity => unmeasured += 1,
        }
    }
    if unmeasured > 0 {
        report.warnings.push(format!(
            "{unmeasured} chunks have another fs-verity digest than the Rootfs says (upstream's \
             builder takes that of the compressed form even where it stores the raw one)"
        ));
    }
    Ok(report)
}
