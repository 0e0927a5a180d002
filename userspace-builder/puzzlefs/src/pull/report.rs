// SPDX-License-Identifier: Apache-2.0
//! What a pull did.

use serde::Serialize;

/// What a pull did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Digest of the manifest at the source, in hexadecimal.
    pub manifest: String,
    /// Digest of the one that the tag names now: the same, or a local one that stands for it.
    pub local_manifest: String,
    /// Whether all blobs that the source's manifest lists are here.
    pub complete: bool,
    /// Requests to the source.
    pub requests: u64,
    /// Bytes of all answers.
    pub bytes_fetched: u64,
    /// Chunks that were fetched.
    pub chunks_fetched: u64,
    /// Their bytes.
    pub chunk_bytes_fetched: u64,
    /// Chunks that the layout had.
    pub chunks_found: u64,
    /// Their bytes, which were not needed from the source.
    pub chunk_bytes_found: u64,
    /// Blobs that the layout did not have.
    pub new_blobs: u64,
    /// Bytes of those.
    pub new_bytes: u64,
}
