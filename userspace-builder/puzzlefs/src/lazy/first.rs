// SPDX-License-Identifier: Apache-2.0
//! What the images of layouts list as the chunks that are read first, for an [`Engine`] that fills their packs.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use puzzlefs_format::{limits, Digest, Manifest, MEDIA_TYPE_PACK};

use super::engine::Engine;
use crate::base::error::Result;
use crate::chunks::list;
use crate::layout::Layout;

/// Lists that are kept, at most: of the newest images.
const MOST: usize = 64;

/// What is known of the lists.
#[derive(Default)]
pub struct First(Mutex<Known>);

/// What they were read from.
#[derive(Default, PartialEq, Eq)]
struct Known {
    /// What each index.json was.
    indexes: Vec<Option<(u64, i64, i64)>>,
    /// How many packs the engine had.
    packs: usize,
}

impl First {
    /// Reads the lists of lazy images again if there are others by now, and gives them to `engine`; says of each image
    /// whose list cannot be read why not.
    pub fn look(&self, layouts: &[Layout], engine: &Engine<'_>) -> Vec<crate::Error> {
        let now = Known {
            indexes: layouts.iter().map(Layout::index_stamp).collect(),
            packs: engine.count(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return Vec::new();
        }
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for layout in layouts {
            match lists(layout, &mut faults) {
                Ok(lists) => all.extend(lists),
                Err(fault) => faults.push(fault),
            }
        }
        all.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
        all.truncate(MOST);
        engine.list(
            all.into_iter()
                .map(|(_, image, list)| (image, list))
                .collect(),
        );
        *known = now;
        faults
    }
}

type Dated = (Option<SystemTime>, Digest, Vec<Digest>);

/// The lists of the lazy images of a layout, with the times at which these came.
fn lists(layout: &Layout, faults: &mut Vec<crate::Error>) -> Result<Vec<Dated>> {
    let lazy: HashSet<Digest> = layout.lazy_packs()?.into_iter().collect();
    let (mut lists, mut seen) = (Vec::new(), HashSet::new());
    if lazy.is_empty() {
        return Ok(lists);
    }
    for (manifest, _) in layout.manifests()? {
        if !seen.insert(manifest) {
            continue;
        }
        match list_of(layout, &manifest, &lazy) {
            Ok(list) => lists.extend(list),
            Err(fault) => faults.push(fault),
        }
    }
    Ok(lists)
}

fn list_of(layout: &Layout, manifest: &Digest, lazy: &HashSet<Digest>) -> Result<Option<Dated>> {
    let text = layout.read_blob(manifest, limits::MAX_MANIFEST_BYTES as u64)?;
    let Ok(parsed) = Manifest::parse(&text) else {
        return Ok(None);
    };
    let is_lazy = parsed
        .layers()
        .flatten()
        .any(|layer| layer.media_type == MEDIA_TYPE_PACK && lazy.contains(&layer.digest));
    if !is_lazy {
        return Ok(None);
    }
    let list = list::of_manifest(layout, &text)?;
    let time = layout.open_blob(manifest)?.metadata()?.modified().ok();
    Ok(list.map(|list| (time, *manifest, list)))
}
