// SPDX-License-Identifier: Apache-2.0
//! What a check found.

use serde::Serialize;

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
    /// Bytes of chunks in them that this image does not use.
    pub unused_bytes: u64,
    /// What is wrong with the image. None: it can be trusted.
    pub errors: Vec<String>,
    /// What is odd but harmless to readers, such as the deviations of upstream's builder.
    pub warnings: Vec<String>,
}
