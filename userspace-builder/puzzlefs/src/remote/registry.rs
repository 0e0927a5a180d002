// SPDX-License-Identifier: Apache-2.0
//! A repository of a registry, or a layout on a web server, as a place that images come from.

use std::io::Read;
use std::ops::Range;

use puzzlefs_format::Digest;

use super::seam::{Document, Part, Remote};
use crate::base::error::Result;
use crate::layout::reference::Name;
use crate::registry::blob::Ranged;
use crate::registry::Sources;

impl Remote for Sources {
    fn name(&self) -> String {
        self.called().to_owned()
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        let found = Sources::manifest(self, name)?;
        Ok(Document {
            digest: found.digest,
            media_type: found.media_type,
            text: found.text,
        })
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Sources::blob(self, digest, Some(size))?))
    }

    fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Part<'_>> {
        Ok(match Sources::range(self, digest, size, range)? {
            Ranged::Range(blob) => Part::Range(Box::new(blob)),
            Ranged::Whole(blob) => Part::Whole(Box::new(blob)),
        })
    }

    fn first(&self) -> usize {
        Sources::trusted(self)
    }

    fn distrust(&self, first: usize) -> bool {
        Sources::distrust(self, first)
    }
}
