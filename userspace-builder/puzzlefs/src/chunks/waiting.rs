// SPDX-License-Identifier: Apache-2.0
//! Chunks that are read first, before it is known which they are: all wait in a file without a name.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use puzzlefs_format::Digest;

/// Bytes of a pack of chunks that are read first: all of them in one request, as a rule.
pub const TARGET: u64 = 128 << 20;

/// Chunks that wait, in a file.
pub struct Waiting {
    file: File,
    end: u64,
    /// Where they begin, and their bytes.
    chunks: HashMap<Digest, (u64, usize)>,
}

impl Waiting {
    /// An empty `file` for them.
    pub fn new(file: File) -> Self {
        Waiting {
            file,
            end: 0,
            chunks: HashMap::new(),
        }
    }

    /// One more, which is not there yet.
    pub fn push(&mut self, digest: Digest, chunk: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(chunk, self.end);
        written.context("writing a chunk into the layout, to wait for its place")?;
        self.chunks.insert(digest, (self.end, chunk.len()));
        self.end += chunk.len() as u64;
        Ok(())
    }

    /// One that is there.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let (start, len) = self.chunks[digest];
        let mut chunk = vec![0; len];
        let read = self.file.read_exact_at(&mut chunk, start);
        read.context("reading a chunk that waited")?;
        Ok(chunk)
    }
}

/// Whether a pack with so many bytes of chunks that are read first, and of others, is not made for the first: what the next
/// version of an image does not read any more may be in it.
pub fn is_mixed(first: u64, others: u64) -> bool {
    first > 0 && others.saturating_mul(4) > first
}
