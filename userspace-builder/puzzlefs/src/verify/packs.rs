// SPDX-License-Identifier: Apache-2.0
//! Checking packs: their digests, and that their indexes say the truth of all chunks,
//! used or not; and the fs-verity digests that the manifest says of them, which a mount may rely on.

use std::collections::{HashMap, HashSet};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Digest, MEDIA_TYPE_PACK};

use super::report::Report;
use crate::base::progress::{Progress, Unit};
use crate::chunks::pack;
use crate::chunks::places::{Pack, Places};
use crate::image::Image;

/// Checks the packs of `image` that could be opened, of which it uses the chunks `used`.
pub fn check(
    image: &Image,
    places: &Places<'_>,
    used: &HashSet<Digest>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let packs = places.packs();
    report.packs = u64::try_from(packs.len())?;
    progress.phase("checking packs", report.packs, Unit::Items);
    let mut measured = HashMap::new();
    for pack in packs {
        if places.is_lazy(pack) {
            report.lazy_packs += 1;
            progress.advance(1);
            continue;
        }
        match whole(image, places, pack) {
            Ok(verity) => drop(measured.insert(pack.digest, verity)),
            Err(fault) => report.fault(fault),
        }
        progress.advance(1);
    }
    for layer in image.manifest()?.layers() {
        let layer = layer?;
        if layer.media_type == MEDIA_TYPE_PACK && layer.fs_verity.is_some() {
            let found = measured.get(&layer.digest);
            if found.is_some_and(|found| layer.fs_verity != Some(*found)) {
                report.errors.push(format!(
                    "the pack sha256:{} has another fs-verity digest than the manifest says",
                    layer.digest
                ));
            }
        }
    }
    let mut chunks = HashSet::new();
    for place in places.table() {
        if !places.is_here(place) {
            report.missing_chunks += 1;
            report.missing_bytes += u64::from(place.size);
        } else if let Err(fault) = places.read_at(place) {
            report.fault(fault);
        }
        // What is there a second time is of no use either.
        if !used.contains(&place.digest) || !chunks.insert(place.digest) {
            report.unused_bytes += u64::from(place.size);
        }
    }
    Ok(())
}

/// Checks the digest of a pack, and the order of its index. Returns its fs-verity digest.
fn whole(image: &Image, places: &Places<'_>, pack: &Pack) -> Result<Digest> {
    let digest = &pack.digest;
    let blob = places.measure_pack(pack)?;
    ensure!(
        blob.digest == *digest,
        "the pack sha256:{digest} is damaged: its content has another digest; delete {} and \
         copy or build its images again",
        image.layout().blob_path(digest).display()
    );
    let (_, entries) = pack::open(image.layout(), digest)?;
    ensure!(
        entries.is_sorted_by(|a, b| a.digest < b.digest),
        "the index of the pack sha256:{digest} is not in ascending order of the digests"
    );
    let verity = blob.verity.context("a pack that was not measured")?;
    Ok(Digest::from_bytes(verity))
}
