// SPDX-License-Identifier: Apache-2.0
//! The cache in a build: what it is asked, and when it is not.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::base::progress::Progress;
use crate::build::past::Past;
use crate::cache::files::{Files, Purpose, RECENT};
use crate::cache::packs::{packs_of, Sound};
use crate::cache::{self, Cache};
use crate::chunks::sink::{Homes, Sink};
use crate::encode::compress::Compression;
use crate::encode::known::Known;
use crate::layout::manifest::Descriptor;
use crate::layout::Layout;

/// The cache, as far as there is one.
pub struct Memory<'a> {
    layout: &'a Layout,
    cache: Option<Cache>,
    /// Whether files that did not change need not be read.
    is_believed: bool,
    /// What was changed later may not have been seen.
    pub begun: (i64, u32),
    progress: &'a dyn Progress,
}

impl<'a> Memory<'a> {
    /// Opens it. A build begins. No fs-verity digests of chunks are kept: where these are to be
    /// `measured`, files are read.
    pub fn open(
        options: Option<&cache::Options>,
        measured: bool,
        layout: &'a Layout,
        progress: &'a dyn Progress,
    ) -> Self {
        let begun = SystemTime::now() - RECENT;
        let begun = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        Memory {
            layout,
            cache: Cache::open(options, progress),
            is_believed: !measured && options.is_some_and(|options| !options.force),
            begun: (begun.as_secs() as i64, begun.subsec_nanos()),
            progress,
        }
    }

    /// What is known of chunks.
    pub fn known<'b>(&self, compression: Compression, sink: &Sink<'b>) -> Result<Known<'b>> {
        match &self.cache {
            Some(cache) => cache::chunks::load(cache, self.layout, compression, sink.places()),
            None => Ok(Known::default()),
        }
    }

    /// What is known of files.
    pub fn past(
        &self,
        purpose: &Purpose<'_>,
        known: &Known<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Past> {
        let Some(cache) = self.cache.as_ref().filter(|_| self.is_believed) else {
            return Ok(Past::default());
        };
        Past::new(Files::load(cache, purpose), known, sink)
    }

    /// Tells `sink` which packs of the layout are sound.
    pub fn vouch(&self, sink: &mut Sink<'_>) -> Result<()> {
        if let Some(cache) = self.cache.as_ref().filter(|_| self.is_believed) {
            sink.vouched(Sound::load(cache, self.layout)?.among(&sink.places())?);
        }
        Ok(())
    }

    /// Keeps what the next build may use.
    pub fn keep(&self, save: impl FnOnce(&Cache) -> Result<()>) {
        if let Some(cache) = &self.cache {
            cache.keep(self.progress, save);
        }
    }

    /// Keeps which packs are sound: those that were there, and those of the new image with these `layers`.
    pub fn keep_packs(
        &self,
        cache: &Cache,
        homes: &Homes<'_>,
        layers: &[Descriptor],
    ) -> Result<()> {
        let sound = Sound::load(cache, self.layout)?;
        let packs = homes.vouched().chain(packs_of(layers));
        sound.save(cache, self.layout, packs, &homes.distrusted())
    }
}
