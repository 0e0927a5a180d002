// SPDX-License-Identifier: Apache-2.0
//! By which rate single images come as far as nobody waits for them, for an [`Engine`] that fills their packs.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use puzzlefs_format::{limits, Digest, Manifest, MEDIA_TYPE_PACK};

use super::engine::Engine;
use super::pace::Rate;
use crate::base::error::Result;
use crate::layout::reference::{Name, Reference};
use crate::layout::Layout;

/// What the user says of an image: bytes in a second, or that none of it comes (0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateOf {
    /// The image.
    pub image: Reference,
    /// Bytes in a second.
    pub bytes: u64,
}

/// What was said of images, and of which packs they are by now.
#[derive(Default)]
pub struct Rates {
    said: Vec<(Reference, Arc<Rate>)>,
    known: Mutex<Option<Known>>,
}

/// What tells that images, or packs, have come or gone.
type Known = (Vec<Option<(u64, i64, i64)>>, usize);
/// The packs of a layout's images, and whether each is to come by a rate.
type Packs = HashMap<Digest, Option<Arc<Rate>>>;

impl Rates {
    /// What `said` says. The packs of `engine` wait until [`Self::look`] has seen whose they are.
    pub fn new(said: &[RateOf], engine: &Engine<'_>) -> Self {
        if !said.is_empty() {
            engine.hold();
        }
        let said = said.iter();
        Rates {
            said: said
                .map(|it| (it.image.clone(), Arc::new(Rate::new(it.bytes))))
                .collect(),
            known: Mutex::default(),
        }
    }

    /// Has the packs of `engine` come by the rates of their images, if there are others by now; gives what failed.
    pub fn look(&self, layouts: &[Layout], engine: &Engine<'_>) -> Vec<crate::Error> {
        if self.said.is_empty() {
            return Vec::new();
        }
        let stamps = layouts.iter().map(Layout::index_stamp).collect();
        let now = Some((stamps, engine.count()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return Vec::new();
        }
        let (mut faults, mut packs) = (Vec::new(), HashMap::<PathBuf, Packs>::new());
        for layout in layouts {
            match self.packs(layout) {
                Ok(found) => {
                    packs.insert(layout.path().to_owned(), found);
                }
                Err(fault) => faults.push(fault),
            }
        }
        // A pull names its image when the packs are there already.
        let none = Arc::new(Rate::new(0));
        engine.limit(|pack| {
            let packs = packs.get(pack.layout().path());
            let known = packs.and_then(|packs| packs.get(&pack.digest));
            known.cloned().unwrap_or_else(|| Some(Arc::clone(&none)))
        });
        // One that cannot be read now is looked at again: its packs wait.
        if faults.is_empty() {
            *known = now;
        }
        faults
    }

    /// A pack of several images comes by the highest of their rates.
    fn packs(&self, layout: &Layout) -> Result<Packs> {
        let mut packs = Packs::new();
        let here = layout.path().canonicalize()?;
        let of = |name: &Name| layout.resolve(name).map(|found| found.digest);
        let said = self.said.iter().filter(|(image, _)| {
            let dir = image.layout.canonicalize();
            dir.is_ok_and(|dir| dir == here)
        });
        let mut rates: HashMap<Digest, &Arc<Rate>> = HashMap::new();
        for (image, rate) in said {
            // One that is not there yet has no packs either.
            let Ok(manifest) = of(&image.name) else {
                continue;
            };
            let known = rates.entry(manifest).or_insert(rate);
            if rate.bytes() > known.bytes() {
                *known = rate;
            }
        }
        let listed = layout
            .manifests()?
            .into_iter()
            .map(|(manifest, _)| manifest);
        let images: HashSet<Digest> = listed.chain(rates.keys().copied()).collect();
        for image in images {
            let text = layout.read_blob(&image, limits::MAX_MANIFEST_BYTES as u64);
            let Ok(text) = text else { continue };
            let Ok(manifest) = Manifest::parse(&text) else {
                continue;
            };
            let rate = rates.get(&image).map(|rate| Arc::clone(rate));
            for layer in manifest.layers().flatten() {
                if layer.media_type != MEDIA_TYPE_PACK {
                    continue;
                }
                let known = packs.entry(layer.digest).or_insert_with(|| rate.clone());
                let is_higher = |known: &Arc<Rate>| {
                    let bytes = rate.as_ref().map_or(u64::MAX, |rate| rate.bytes());
                    bytes > known.bytes()
                };
                if known.as_ref().is_some_and(is_higher) {
                    known.clone_from(&rate);
                }
            }
        }
        Ok(packs)
    }
}
