// SPDX-License-Identifier: Apache-2.0
//! Which packs of a layout stay in use when images are repacked.

use std::cmp::Reverse;
use std::collections::HashSet;

use anyhow::Result;
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST, MEDIA_TYPE_PACK};

use super::images::Images;
use crate::chunks::places::{Place, Places};
use crate::chunks::waiting::is_mixed;
use crate::image::Image;
use crate::layout::reach::Reach;

/// A pack that may be kept.
struct Candidate {
    digest: Digest,
    /// What its index lists.
    places: Vec<Place>,
    /// An image that is not converted has it: it stays in the layout anyway.
    pinned: bool,
    /// It has metadata of the images to be converted, and nothing else, or chunks that are read first.
    apart: bool,
}

impl Candidate {
    fn bytes(&self) -> u64 {
        self.places.iter().map(|place| u64::from(place.size)).sum()
    }

    /// Bytes of those chunks that are among `chunks`.
    fn bytes_of(&self, chunks: &HashSet<Digest>) -> u64 {
        let wanted = self.places.iter().filter(|p| chunks.contains(&p.digest));
        wanted.map(|place| u64::from(place.size)).sum()
    }

    fn remove_from(&self, chunks: &mut HashSet<Digest>) {
        self.places.iter().for_each(|place| {
            chunks.remove(&place.digest);
        });
    }
}

/// The packs whose chunks need not be packed anew: see [`super::convert::repack`].
///
/// One that has some of the chunks that are read `first`, among more than a few others, is not kept: an image has each
/// chunk once, as a reader may take it from any of its packs.
pub fn packs(
    images: &Images<'_>,
    target: u64,
    max_unused: u8,
    first: &HashSet<Digest>,
) -> Result<Vec<Digest>> {
    let (mut needed, mut blocks) = (HashSet::new(), HashSet::new());
    for (manifest, _) in &images.list {
        let image = images.open(manifest)?;
        let chunks = image.chunks()?;
        needed.extend(chunks.into_iter().map(|(digest, _)| digest));
        blocks.extend(image.blocks().iter().map(|(digest, _)| *digest));
    }
    needed.extend(&blocks);
    // Those with the most chunks first: of a chunk that several have, one is of use.
    let mut candidates = candidates(images, &blocks)?;
    for candidate in &mut candidates {
        candidate.apart |= candidate.bytes_of(first) == candidate.bytes();
    }
    candidates.retain(|candidate| {
        let bytes = candidate.bytes_of(first);
        !is_mixed(bytes, candidate.bytes() - bytes)
    });
    candidates.sort_by_cached_key(|c| (Reverse(c.pinned), Reverse(c.bytes_of(&needed)), c.digest));
    let mut kept = Vec::new();
    let mut small = Vec::new();
    for candidate in candidates {
        let (bytes, used) = (candidate.bytes(), candidate.bytes_of(&needed));
        let dense = (bytes - used) * 100 <= bytes * u64::from(max_unused);
        if used == 0 {
            continue;
        } else if candidate.pinned || dense && (bytes >= target / 2 || candidate.apart) {
            candidate.remove_from(&mut needed);
            kept.push(candidate.digest);
        } else if dense {
            small.push(candidate);
        }
    }
    // The last pack of a build is small as a rule. One that is alone stays so.
    if let [single] = &small[..] {
        single.remove_from(&mut needed);
        if needed.is_empty() {
            kept.push(single.digest);
        }
    }
    Ok(kept)
}

/// The blobs that images list which are not to be converted.
fn pinned(images: &Images<'_>, reach: &Reach) -> Result<HashSet<Digest>> {
    let layout = images.layout;
    let converted = |manifest: &Digest| {
        images.list.iter().any(|(known, _)| known == manifest) && !images.others.contains(manifest)
    };
    let mut pinned = HashSet::new();
    for manifest in reach.with_type(MEDIA_TYPE_MANIFEST) {
        if !converted(&manifest) && layout.names_blob(&manifest)? {
            // What is wrong with an image that is not converted does not matter.
            pinned.extend(Image::listed(layout, &manifest).into_iter().flatten());
        }
    }
    Ok(pinned)
}

/// The chunks that lie in blobs of images which are not converted.
pub fn elsewhere(images: &Images<'_>) -> Result<HashSet<Digest>> {
    let reach = Reach::of(images.layout)?;
    let pinned = pinned(images, &reach)?;
    let packs = reach.with_type(MEDIA_TYPE_PACK);
    let packs = packs.filter(|pack| pinned.contains(pack));
    let packs = images.layout.only_whole(packs)?;
    let (places, _) = Places::open(images.layout, packs);
    let packed = places.table().iter().map(|place| place.digest);
    Ok(packed.chain(pinned.iter().copied()).collect())
}

fn candidates(images: &Images<'_>, blocks: &HashSet<Digest>) -> Result<Vec<Candidate>> {
    let layout = images.layout;
    let reach = Reach::of(layout)?;
    let pinned = pinned(images, &reach)?;
    // What is wrong with packs shows when an image that needs them is read.
    let packs = layout.only_whole(reach.with_type(MEDIA_TYPE_PACK))?;
    let (places, _) = Places::open(layout, packs);
    let packs = places.packs().iter().map(|pack| Candidate {
        digest: pack.digest,
        places: Vec::new(),
        pinned: pinned.contains(&pack.digest),
        apart: true,
    });
    let mut candidates: Vec<_> = packs.collect();
    for place in places.table() {
        let candidate = &mut candidates[place.pack as usize];
        candidate.apart &= blocks.contains(&place.digest);
        candidate.places.push(*place);
    }
    Ok(candidates)
}
