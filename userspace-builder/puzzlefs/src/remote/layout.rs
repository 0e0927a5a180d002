// SPDX-License-Identifier: Apache-2.0
//! A layout as a place that images come from. Of an image that was pulled into it, it gives what was
//! pulled: the same manifest, and its packs, put together from chunks where they are not there.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_MANIFEST};

use super::seam::{Document, Part, Remote};
use crate::base::error::{Error, Result, Where};
use crate::chunks::compose::{Bytes, Composer};
use crate::layout::reference::Name;
use crate::layout::Layout;

/// A layout of this machine.
pub struct Local {
    layout: Layout,
    /// For the blobs that are not there, of each image that was asked for.
    composers: Mutex<Vec<Arc<Composer>>>,
}

impl Local {
    /// The layout as it is.
    pub fn new(layout: Layout) -> Self {
        Local {
            layout,
            composers: Mutex::default(),
        }
    }

    /// Who can put a blob together.
    fn composer(&self, blob: &Digest) -> Option<Arc<Composer>> {
        let all = self
            .composers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|composer| composer.knows(blob)).cloned()
    }
}

impl Remote for Local {
    fn name(&self) -> String {
        format!("oci:{}", self.layout.path().display())
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        let local = self.layout.resolve(name)?.digest;
        let text = self
            .layout
            .read_blob(&local, limits::MAX_MANIFEST_BYTES as u64)?;
        let document = |digest, text| Document {
            digest,
            media_type: MEDIA_TYPE_MANIFEST.into(),
            text,
        };
        // Whoever names the local manifest by its digest wants just that.
        let is_asked_for = *name == Name::Digest(local);
        match self.layout.pulled(&text)?.filter(|_| !is_asked_for) {
            None => Ok(document(local, text)),
            Some((record, pulled)) => {
                let composer = Composer::new(&self.layout, &record, &pulled)?;
                let all = self.composers.lock();
                let mut all = all.unwrap_or_else(PoisonError::into_inner);
                all.push(Arc::new(composer));
                Ok(document(record.manifest, pulled))
            }
        }
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        match self.range(digest, size, 0..u64::MAX)? {
            Part::Range(bytes) | Part::Whole(bytes) => Ok(bytes),
        }
    }

    fn range(&self, digest: &Digest, _size: u64, range: Range<u64>) -> Result<Part<'_>> {
        Ok(Part::Range(self.open(digest, range)?))
    }
}

impl Local {
    /// The bytes of a blob that is not there, if it can be put together from chunks; `None` if it is there, or
    /// was never to be put together.
    ///
    /// # Errors
    ///
    /// If chunks of it are nowhere.
    pub fn composable(&self, digest: &Digest) -> Result<Option<u64>> {
        let composer = match self.layout.names_blob(digest)? {
            true => None,
            false => self.composer(digest),
        };
        let Some(composer) = composer else {
            return Ok(None);
        };
        match composer.missing(digest) {
            (0, _) => Ok(composer.size(digest)),
            (count, bytes) => {
                let text = format!(
                    "{count} chunks of the pack sha256:{digest}, {bytes} bytes, which the image does not \
                     use itself, are not in {}: fetch them by puzzlefs complete --from, or name the \
                     manifest that lists no such chunks, by the digest that puzzlefs tags shows",
                    self.layout.path().display()
                );
                Err(Error::not_found(text).of(digest))
            }
        }
    }

    /// The bytes `range` of a blob, as far as it has them.
    pub fn open(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes> {
        if let (Some(composer), false) = (self.composer(digest), self.layout.names_blob(digest)?) {
            return composer.read(digest, range);
        }
        self.layout.ensure_whole(digest)?;
        let mut file = self.layout.open_blob(digest)?;
        let context = || format!("reading the blob sha256:{digest}");
        let moved = file.seek(SeekFrom::Start(range.start));
        moved.with_context(context).of(digest)?;
        let len = range.end.saturating_sub(range.start);
        Ok(Box::new(file.take(len)))
    }
}
