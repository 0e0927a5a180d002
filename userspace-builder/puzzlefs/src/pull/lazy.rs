// SPDX-License-Identifier: Apache-2.0
//! Pulling an image of which only the metadata come: its packs are there under their names, and hold no more than
//! their indexes and a record of what is missing (FORMAT.md, section 2.3).

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use puzzlefs_format::Digest;

use super::blobs::{Blobs, Pack};
use super::{find, Found, Report};
use crate::base::error::Error;
use crate::base::progress::{Progress, Unit};
use crate::cache::packs::Sound;
use crate::cache::{self, Cache};
use crate::chunks::presence::Presence;
use crate::image::Image;
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::lazy::fill::fill;
use crate::lazy::Origins;

impl Found<'_> {
    /// Brings the metadata of the image into `layout`, and lets `tag` name it. Chunks come from `sources` later, which
    /// is what the command line calls places that have the image, the first one to be asked first; `origins` opens them.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the image has loose chunks, or the blobs of the layout lie elsewhere. The tag stays as it
    /// was when anything fails.
    pub fn pull_lazy(
        &self,
        layout: &Layout,
        tag: &str,
        sources: &[String],
        origins: Origins,
        cache: Option<&cache::Options>,
        progress: &dyn Progress,
    ) -> crate::Result<Report> {
        let _kept = layout.keep_blobs(progress)?;
        let pulled = self.lazy_into(layout, tag, sources, origins, cache, progress);
        let context = || format!("pulling from {}", self.source.name());
        Ok(pulled.with_context(context)?)
    }

    fn lazy_into(
        &self,
        layout: &Layout,
        tag: &str,
        sources: &[String],
        origins: Origins,
        cache: Option<&cache::Options>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        if !layout.owns_blobs()? {
            let text = "the blobs of the layout lie elsewhere, where other layouts may have theirs: they would take a \
                        lazy pack for a damaged one";
            return Err(Error::refused(text).into());
        }
        let staging = Staging::new(layout)?;
        let known = Cache::open(cache, progress).map(|cache| Sound::load(&cache, layout));
        let known = known.transpose()?.unwrap_or_default();
        let listed = find::parse(&self.document)?;
        let mut blobs = Blobs::new(&listed, &self.document.text, layout, &known, progress)?;
        if !blobs.loose.is_empty() {
            let text = "the image has chunks that are in no pack: pull it without --lazy, or `puzzlefs repack` it \
                        where it comes from";
            return Err(Error::refused(text).into());
        }
        blobs.ends_here(layout);
        staging.put(&self.document.digest, &self.document.text)?;
        self.small(&mut blobs, &staging, progress)?;
        self.gaps(&mut blobs, &staging, progress)?;
        let lazy: Vec<&Pack> = blobs
            .packs
            .iter()
            .filter(|pack| pack.here.is_none())
            .collect();
        for pack in &lazy {
            let end = pack.end.as_ref().context("a pack without an end")?;
            let was_lazy = layout.is_lazy(&pack.digest)? && layout.names_blob(&pack.digest)?;
            // First the record: a file without one would be damage.
            Presence::begin(layout, &pack.digest, end, sources)?;
            if !was_lazy {
                staging.put_lazy(&pack.digest, pack.size, &end.bytes)?;
            }
        }
        staging.commit()?;

        let blocks = Image::blocks_of(layout, &blobs.rootfs)?;
        let blocks: HashSet<Digest> = blocks.into_iter().map(|(digest, _)| digest).collect();
        let packs: Vec<Digest> = lazy.iter().map(|pack| pack.digest).collect();
        let filled = fill(layout, &packs, Some(&blocks), Vec::new(), origins, progress)?;
        progress.phase("reading metadata", 0, Unit::Items);
        Image::of_text(layout, self.document.text.clone())?;
        let size = self.document.text.len() as u64;
        if !layout.has_tag(tag, &self.document.digest, size)? {
            layout.set_tag(tag, &self.document.digest, size)?;
        }
        let added = staging.commit()?;
        let is_complete = layout.only_whole(packs)?.len() == lazy.len();
        Ok(Report {
            manifest: self.document.digest.to_string(),
            local_manifest: self.document.digest.to_string(),
            complete: is_complete,
            requests: self.source.requests.load(Ordering::Relaxed) + filled.requests,
            bytes_fetched: self.source.bytes.load(Ordering::Relaxed) + filled.bytes - filled.copied,
            new_blobs: added.blobs,
            new_bytes: added.bytes,
            ..Report::default()
        })
    }

    /// Fetches packs as a whole that have something between their chunks: nobody could put these together.
    fn gaps(
        &self,
        blobs: &mut Blobs,
        staging: &Staging<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let has_gaps = |pack: &&mut Pack| {
            let end = pack.end.as_ref();
            pack.here.is_none() && end.is_some_and(|end| !end.is_dense())
        };
        for pack in blobs.packs.iter_mut().filter(has_gaps) {
            progress.phase("fetching packs", pack.size, Unit::Bytes);
            let blob = self.source.stage(staging, &pack.digest, pack.size, || ())?;
            pack.here = blob.verity;
            pack.check_said()?;
        }
        Ok(())
    }
}
