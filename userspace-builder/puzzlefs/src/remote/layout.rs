// SPDX-License-Identifier: Apache-2.0
//! A layout as a place that images come from.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use anyhow::Context;
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_MANIFEST};

use super::{Document, Part, Remote};
use crate::base::error::{Result, Where};
use crate::layout::reference::Name;
use crate::layout::Layout;

/// A layout of this machine.
pub struct Local {
    layout: Layout,
}

impl Local {
    /// The layout as it is.
    pub fn new(layout: Layout) -> Self {
        Local { layout }
    }
}

impl Remote for Local {
    fn name(&self) -> String {
        format!("oci:{}", self.layout.path().display())
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        let digest = self.layout.resolve(name)?.digest;
        let limit = limits::MAX_MANIFEST_BYTES as u64;
        Ok(Document {
            digest,
            media_type: MEDIA_TYPE_MANIFEST.into(),
            text: self.layout.read_blob(&digest, limit)?,
        })
    }

    fn blob(&self, digest: &Digest, _size: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.layout.open_blob(digest)?))
    }

    fn range(&self, digest: &Digest, _size: u64, range: Range<u64>) -> Result<Part<'_>> {
        let mut file = self.layout.open_blob(digest)?;
        let context = || format!("reading the blob sha256:{digest}");
        let moved = file.seek(SeekFrom::Start(range.start));
        moved.with_context(context).of(digest)?;
        let len = range.end.saturating_sub(range.start);
        Ok(Part::Range(Box::new(file.take(len))))
    }
}
