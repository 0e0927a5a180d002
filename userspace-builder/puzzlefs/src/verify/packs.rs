// SPDX-License-Identifier: Apache-2.0
//! Checking packs: their digests, and that their indexes say the truth of all chunks,
//! used or not.

use std::collections::HashSet;

use anyhow::{ensure, Result};
use puzzlefs_format::Digest;

use super::Report;
use crate::image::Image;
use crate::pack;
use crate::places::{Pack, Places};
use crate::progress::{Progress, Unit};

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
    for pack in packs {
        let fault = whole(image, pack).err();
        report
            .errors
            .extend(fault.map(|fault| format!("{fault:#}")));
        progress.advance(1);
    }
    let mut chunks = HashSet::new();
    for place in places.table() {
        let fault = places.read_at(place).err();
        report
            .errors
            .extend(fault.map(|fault| format!("{fault:#}")));
        // What is there a second time is of no use either.
        if !used.contains(&place.digest) || !chunks.insert(place.digest) {
            report.unused_bytes += u64::from(place.size);
        }
    }
    Ok(())
}

/// The digest of a pack, and the order of its index.
fn whole(image: &Image, pack: &Pack) -> Result<()> {
    let digest = &pack.digest;
    ensure!(
        image.layout().has_blob(digest, pack.size)?,
        "the pack sha256:{digest} is damaged: its content has another digest; delete {} and \
         copy or build its images again",
        image.layout().blob_path(digest).display()
    );
    let (_, entries) = pack::open(image.layout(), digest)?;
    ensure!(
        entries.is_sorted_by(|a, b| a.digest < b.digest),
        "the index of the pack sha256:{digest} is not in ascending order of the digests"
    );
    Ok(())
}
