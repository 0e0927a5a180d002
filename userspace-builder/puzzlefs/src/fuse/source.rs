// SPDX-License-Identifier: Apache-2.0
//! Where chunks of a mounted image come from.

use puzzlefs_format::Digest;

use crate::base::digest::sha256;
use crate::chunks::places::Places;
use crate::lazy::{Absent, Patience};

/// The bytes of a chunk as they are stored, which have its digest.
pub struct Verified(Vec<u8>);

impl Verified {
    /// Takes `bytes` if they are those of `chunk`.
    pub fn check(bytes: Vec<u8>, chunk: &Digest) -> Option<Self> {
        (sha256(&[&bytes]) == *chunk).then_some(Verified(bytes))
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Where chunks come from: a layout, or something that fetches them first. Several threads ask at
/// once, each chunk being asked for by one at a time.
pub trait ChunkSource: Send + Sync {
    /// Sees to it that [`Self::stored`] has these chunks. The time that it takes is `patience`'s.
    ///
    /// # Errors
    ///
    /// Which of them is not there, and why.
    fn bring(&self, chunks: &[Digest], patience: &Patience<'_>) -> Result<(), (Digest, Absent)>;

    /// The stored bytes of `chunk`, in a bounded time.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or why it cannot be had.
    fn stored(&self, chunk: &Digest) -> crate::Result<Verified>;
}

/// The packs and loose chunks of a layout.
pub struct LayoutSource<'a>(Places<'a>);

impl<'a> LayoutSource<'a> {
    /// All that `places` knows of, and loose chunks. Its packs stay open, so that one that is
    /// removed is still read.
    pub(crate) fn new(mut places: Places<'a>) -> crate::Result<Self> {
        places.keep_open()?;
        Ok(LayoutSource(places))
    }

    /// Where chunks are.
    pub(super) fn places(&self) -> &Places<'a> {
        &self.0
    }
}

impl ChunkSource for LayoutSource<'_> {
    /// What is not here does not come.
    fn bring(&self, _: &[Digest], _: &Patience<'_>) -> Result<(), (Digest, Absent)> {
        Ok(())
    }

    fn stored(&self, chunk: &Digest) -> crate::Result<Verified> {
        // Places give no bytes that do not have the digest.
        Ok(Verified(self.0.read(chunk)?))
    }
}
