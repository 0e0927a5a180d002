// SPDX-License-Identifier: Apache-2.0
//! What a check found.

use anyhow::Error;
use serde::Serialize;

use crate::base::error::is_trouble;

/// The manifest of another layout or a registry for which one of this layout stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pulled {
    /// Its digest, in hexadecimal.
    pub manifest: String,
    /// Packs of it that are here.
    pub packs: u64,
    /// Packs that can be put together from chunks.
    pub composable: u64,
    /// Chunks of others that are not here: the image does not use them.
    pub missing_chunks: u64,
    /// Their bytes.
    pub missing_bytes: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Digest of the manifest, in hexadecimal.
    pub manifest: String,
    /// Inodes that names lead to.
    pub inodes: u64,
    /// Distinct chunks that files use.
    pub chunks: u64,
    /// Bytes of files.
    pub data_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Packs of which chunks are still to be fetched, so that their digests say nothing yet.
    pub lazy_packs: u64,
    /// Chunks of those that are not here.
    pub missing_chunks: u64,
    /// Their bytes, as stored.
    pub missing_bytes: u64,
    /// Bytes of chunks in them that this image does not use.
    pub unused_bytes: u64,
    /// The manifest that it stands for, if it does.
    pub pulled: Option<Pulled>,
    /// What is wrong with the image. None: it can be trusted.
    pub errors: Vec<String>,
    /// What could not be read, so that nothing is known of it: too many open files, an error of
    /// the disk, something else than a file in the place of a blob.
    pub unread: Vec<String>,
    /// What is odd but harmless to readers, such as the deviations of upstream's builder.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether all was looked at, and nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty() && self.unread.is_empty()
    }

    /// Notes what is wrong, or could not be read.
    pub(super) fn fault(&mut self, fault: impl Into<Error>) {
        let fault = fault.into();
        let list = match is_trouble(&fault) {
            true => &mut self.unread,
            false => &mut self.errors,
        };
        let text = format!("{fault:#}");
        // One reason may hold for many chunks.
        if list.last() != Some(&text) {
            list.push(text);
        }
    }
}
