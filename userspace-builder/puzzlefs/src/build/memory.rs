// SPDX-License-Identifier: Apache-2.0
//! The cache in a build: what it is asked, and when it is not.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rustix::io::Errno;

use crate::base::progress::Progress;
use crate::build::cache::files::{Files, Purpose, RECENT};
use crate::build::cache::{self, Cache};
use crate::build::past::Past;
use crate::chunks::sink::Sink;
use crate::encode::compress::Compression;
use crate::encode::known::Known;
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
        let cache = options.and_then(|options| {
            let cache = Cache::open(&options.dir);
            let note = |e| note(&format!("no cache is used: {e:#}"), &e, progress);
            cache.map_err(note).ok()
        });
        Memory {
            layout,
            cache,
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
        let sound = cache::chunks::load_packs(cache, self.layout, &sink.places())?;
        Past::new(Files::load(cache, purpose), known, sink, sound)
    }

    /// Keeps what the next build may use. That it cannot does no harm.
    pub fn keep(&self, save: impl FnOnce(&Cache) -> Result<()>) {
        let kept = self.cache.as_ref().map(|cache| {
            save(cache)?;
            cache.trim()
        });
        if let Some(Err(e)) = kept {
            let text = format!("the next build will take as long as this one: {e:#}");
            note(&text, &e, self.progress);
        }
    }
}

/// Says what is wrong with the cache. Whoever has a home that is read-only knows it.
fn note(text: &str, error: &anyhow::Error, progress: &dyn Progress) {
    let cause = error.root_cause();
    let errno = cause.downcast_ref::<Errno>().copied();
    let errno = errno.or_else(|| Errno::from_io_error(cause.downcast_ref()?));
    if !matches!(errno, Some(Errno::ROFS | Errno::ACCESS | Errno::PERM)) {
        progress.note(text);
    }
}
