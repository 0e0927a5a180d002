// SPDX-License-Identifier: Apache-2.0
//! What a place can do that images come from.

use std::io::Read;
use std::ops::Range;

use puzzlefs_format::Digest;

use crate::base::error::Result;
use crate::layout::reference::Name;

/// Somewhere that images come from. Nothing that it says is believed: whoever calls checks digests,
/// and reads no more of a body than was asked for.
///
/// Whoever implements it sees to retries, authentication and redirects, and goes on where a body was cut.
/// It is called from several threads.
pub trait Remote: Send + Sync {
    /// What it is called, for people: `docker://host/repo`, `oci:DIR`.
    fn name(&self) -> String;

    /// A manifest or an index by its tag or digest.
    ///
    /// # Errors
    ///
    /// If it is not there ([`crate::Error::NotFound`]), has more than `limits::MAX_MANIFEST_BYTES`, or has
    /// another digest than was asked for ([`crate::Error::Damaged`]).
    fn manifest(&self, name: &Name) -> Result<Document>;

    /// All of a blob, which is said to have `size` bytes, from its beginning on. The reader may end
    /// early, or go on for ever.
    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// The bytes `range` of a blob that is said to have `size`.
    fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Part<'_>>;

    /// Who is asked first, of several that may have it: a number for [`Self::distrust`].
    fn first(&self) -> usize {
        0
    }

    /// That something was wrong which came while the one of this number was the first: it is asked no more.
    /// Whether somebody else can be asked.
    fn distrust(&self, _first: usize) -> bool {
        false
    }
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub struct Document {
    /// That of its bytes.
    pub digest: Digest,
    /// What it is said to be.
    pub media_type: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Some bytes of a blob.
pub enum Part<'a> {
    /// The bytes that were asked for. The reader may end early, or go on for ever.
    Range(Box<dyn Read + Send + 'a>),
    /// The server gives only whole blobs: this one, from its beginning on.
    Whole(Box<dyn Read + Send + 'a>),
}
