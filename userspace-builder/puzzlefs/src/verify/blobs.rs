// SPDX-License-Identifier: Apache-2.0
//! Checking the manifest: its descriptors against the blobs, and against what files use.

use std::collections::HashSet;

use anyhow::Result;
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_PACK};

use super::report::Report;
use crate::chunks::places::Places;
use crate::image::Image;

/// The manifest's descriptors against the blobs, and against what files use.
pub(super) fn check(
    image: &Image,
    places: &Places<'_>,
    used: &HashSet<Digest>,
    report: &mut Report,
) -> Result<()> {
    let manifest = image.manifest()?;
    if let Some(config) = manifest.config() {
        let limit = u64::try_from(limits::MAX_MANIFEST_BYTES)?;
        if let Err(fault) = image.layout().read_blob(&config.digest, limit) {
            report.fault(fault.context("config"));
        }
    }
    let mut listed = HashSet::new();
    let mut wrong_sizes = 0u64;
    for layer in manifest.layers() {
        let layer = layer?;
        if !listed.insert(layer.digest) {
            continue;
        }
        let stored = image.layout().blob_size(&layer.digest);
        let is_size_wrong = matches!(stored, Ok(Some(size)) if size != layer.size);
        wrong_sizes += u64::from(is_size_wrong);
        if is_size_wrong && layer.media_type == MEDIA_TYPE_PACK {
            report.errors.push(format!(
                "pack sha256:{}: the manifest gives it another size than it has, so it may not be \
                 mounted",
                layer.digest
            ));
        }
        // Chunks in use are read below, packs have been; the rest must be there too, or a copy
        // fails.
        if !used.contains(&layer.digest)
            && layer.digest != *image.rootfs_digest()
            && layer.media_type != MEDIA_TYPE_PACK
        {
            // It may be of any size.
            let sound = match stored {
                Ok(Some(size)) => image.layout().has_blob(&layer.digest, size),
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
            match sound {
                Ok(true) => {}
                Ok(false) => report.errors.push(format!(
                    "unused layer: the blob sha256:{} is missing or damaged; delete {} and copy \
                     or build the image again",
                    layer.digest,
                    image.layout().blob_path(&layer.digest).display()
                )),
                Err(fault) => report.fault(fault.context("unused layer")),
            }
        }
    }
    if wrong_sizes > 0 {
        report.warnings.push(format!(
            "{wrong_sizes} layers have another size than the manifest says (as upstream's builder writes); registries will refuse them"
        ));
    }
    let missing = used
        .difference(&listed)
        .filter(|chunk| places.of(chunk).is_empty())
        .count();
    if missing > 0 && places.is_complete() {
        report.warnings.push(format!(
            "{missing} chunks are not listed in the manifest (as in upstream's deltas); tools that copy images will leave them behind"
        ));
    }
    Ok(())
}
