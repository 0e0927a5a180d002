// SPDX-License-Identifier: Apache-2.0
//! Chunks of an image of which not all are here: what is read is fetched first.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use puzzlefs_format::Digest;

use super::source::{ChunkSource, LayoutSource, Verified};
use crate::base::error::{Error, Result};
use crate::base::progress::{Progress, Unit};
use crate::chunks::list;
use crate::chunks::places::{Pack as Whole, Place};
use crate::image::Image;
use crate::lazy::{Absent, Fetcher, Options, Pack, Patience};

/// Where lines for people go.
pub(super) struct Notes(pub(super) Arc<dyn Fn(&str) + Send + Sync>);

impl Progress for Notes {
    fn phase(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn note(&self, text: &str) {
        (self.0)(text);
    }
}

/// The chunks of such an image.
pub struct LazySource {
    here: LayoutSource<'static>,
    /// Of the packs of `here` the numbers that `fetcher` has for them; those that are whole have none.
    numbers: Vec<Option<usize>>,
    fetcher: Arc<Fetcher>,
}

impl LazySource {
    /// Chunks of `image`, which are fetched as `options` say. What people are to know goes to `notes`. `None` if all of the
    /// image is here.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the layout may not be written to; a pack or a record that is damaged.
    pub fn new(
        image: &'static Image,
        options: Options,
        notes: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Option<Self>> {
        let layout = image.layout();
        let here = LayoutSource::new(image.sound_places()?)?;
        let (mut numbers, mut lazy) = (Vec::new(), Vec::new());
        for pack in here.places().packs() {
            let opened = match here.places().is_lazy(pack) {
                true => open(image, pack)?,
                false => None,
            };
            numbers.push(opened.is_some().then_some(lazy.len()));
            lazy.extend(opened);
        }
        if lazy.is_empty() {
            return Ok(None);
        }
        // A profile that cannot be read says nothing.
        let first = list::of_manifest(layout, image.manifest_bytes()).unwrap_or_default();
        let first = first.map(|list| (*image.manifest_digest(), list));
        let layouts = std::slice::from_ref(layout);
        let fetcher = Fetcher::start(layouts, lazy, first, options, Notes(notes))?;
        Ok(Some(LazySource {
            here,
            numbers,
            fetcher,
        }))
    }

    /// Who fetches.
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// The number of the lazy pack that a place is in, if it is in one that is not done.
    fn lazy(&self, place: &Place) -> Option<(usize, Arc<Pack>)> {
        let number = (*self.numbers.get(place.pack as usize)?)?;
        Some((number, self.fetcher.engine().pack(number)?))
    }

    /// Where a chunk is to be fetched to, if it has to be; the first of its places, if there are several.
    fn missing(&self, chunk: &Digest) -> Option<(usize, usize)> {
        let mut missing = None;
        for place in self.here.places().of(chunk) {
            let (number, pack) = self.lazy(place)?;
            let at = pack.chunk_at(place.offset)?;
            if self.fetcher.engine().has(number, at) {
                return None;
            }
            missing = missing.or(Some((number, at)));
        }
        missing
    }

    /// A chunk from the file that was opened to be filled, or from one that took its place.
    fn elsewhere(&self, chunk: &Digest) -> Option<Verified> {
        let layout = self.here.places().layout();
        let mut places = self.here.places().of(chunk).iter();
        places.find_map(|place| {
            let filled = self.lazy(place).and_then(|(_, pack)| {
                let number = pack.chunk_at(place.offset)?;
                pack.read(number)
            });
            let named = || {
                let pack = &self.here.places().packs()[place.pack as usize].digest;
                let mut bytes = vec![0; usize::try_from(place.size).ok()?];
                let file = layout.open_blob(pack).ok()?;
                file.read_exact_at(&mut bytes, place.offset.into()).ok()?;
                Some(bytes)
            };
            Verified::check(filled.or_else(named)?, chunk)
        })
    }
}

/// A lazy pack of `image`, to be filled; `None` if it is whole by now.
fn open(image: &Image, pack: &Whole) -> Result<Option<Pack>> {
    let layout = image.layout();
    let may_not = |error: &Error| {
        matches!(
            error.system(),
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        )
    };
    match Pack::open(layout, &pack.digest) {
        Err(error) if may_not(&error) => {
            let text = format!(
                "not all of the image is here, and what is read of it cannot be kept in {}, which may not be written to \
                 ({error:#}): mount it from where it was pulled, as docker://HOST/REPOSITORY:TAG, into a --cache of your own",
                layout.path().display()
            );
            Err(Error::refused(text).of(&pack.digest))
        }
        opened => opened,
    }
}

impl ChunkSource for LazySource {
    fn bring(&self, chunks: &[Digest], patience: &Patience<'_>) -> Result<(), (Digest, Absent)> {
        let places = chunks
            .iter()
            .filter_map(|it| Some((self.missing(it)?, *it)));
        let places: HashMap<(usize, usize), Digest> = places.collect();
        let brought = self.fetcher.bring(places.keys().copied(), patience);
        brought.map_err(|(at, absent)| {
            // It is one of those that were asked for.
            let chunk = places.get(&at).or(chunks.first());
            (
                chunk.copied().unwrap_or(Digest::from_bytes([0; 32])),
                absent,
            )
        })
    }

    fn stored(&self, chunk: &Digest) -> Result<Verified> {
        self.here
            .stored(chunk)
            .or_else(|error| self.elsewhere(chunk).ok_or(error))
    }
}
