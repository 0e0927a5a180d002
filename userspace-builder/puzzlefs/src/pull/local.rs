// SPDX-License-Identifier: Apache-2.0
//! Which packs of the layout have the chunks that are needed.

use std::cmp::Reverse;
use std::collections::HashSet;

use puzzlefs_format::{limits, Digest};

use crate::chunks::places::{Place, Places};

/// Packs of the layout that an image may use. Those that are new have to have room beside them.
const MAX_PACKS: usize = limits::MAX_PACKS as usize / 2;
/// Chunks in them.
const MAX_CHUNKS: usize = limits::MAX_PACKED_CHUNKS as usize / 2;

/// The packs that have the chunks `needed`, as far as their indexes say so: as few as can be found by taking
/// those first that have most. Those in `first` come before others.
pub fn choose(all: &Places<'_>, needed: &HashSet<Digest>, first: &HashSet<Digest>) -> Vec<Digest> {
    let mut lists: Vec<(u64, usize, Vec<&Place>)> = Vec::new();
    lists.resize_with(all.packs().len(), Default::default);
    for place in all.table() {
        let (bytes, count, places) = &mut lists[place.pack as usize];
        *count += 1;
        if needed.contains(&place.digest) {
            *bytes += u64::from(place.size);
            places.push(place);
        }
    }
    let mut order: Vec<_> = all.packs().iter().zip(lists).collect();
    order.sort_by_key(|(pack, (bytes, ..))| {
        let is_first = first.contains(&pack.digest);
        (Reverse(is_first), Reverse(*bytes), pack.digest)
    });
    let (mut covered, mut chosen, mut chunks) = (HashSet::new(), Vec::new(), 0);
    for (pack, (_, count, places)) in order {
        let is_new = places.iter().any(|place| !covered.contains(&place.digest));
        let fits = chosen.len() < MAX_PACKS && chunks + count <= MAX_CHUNKS;
        if is_new && fits {
            covered.extend(places.iter().map(|place| place.digest));
            chosen.push(pack.digest);
            chunks += count;
        }
    }
    chosen
}
