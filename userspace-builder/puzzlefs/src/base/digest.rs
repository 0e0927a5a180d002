// SPDX-License-Identifier: Apache-2.0
//! SHA-256 of blobs.

use std::io::{self, Write};

pub use puzzlefs_format::Digest;
use sha2::{Digest as _, Sha256};

use crate::base::verity::Measure;

/// SHA-256 of `parts`, one after another.
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    Digest::from_bytes(hash.finalize().into())
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// What a blob turned out to be.
#[derive(Clone, Copy, Debug)]
pub struct Blob {
    /// Its SHA-256.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Its fs-verity digest, if it was measured.
    pub verity: Option<[u8; 32]>,
}

/// A writer that hashes and counts what passes through.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
    measure: Option<Measure>,
    size: u64,
}

impl<W: Write> Hashing<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Hashing {
            inner,
            hash: Sha256::new(),
            measure: None,
            size: 0,
        }
    }

    /// Also measures the fs-verity digest of what comes from now on.
    pub fn measure(&mut self) {
        self.measure = Some(Measure::default());
    }

    /// The inner writer, and what was written.
    pub fn finish(self) -> (W, Blob) {
        let blob = Blob {
            digest: Digest::from_bytes(self.hash.finalize().into()),
            size: self.size,
            verity: self.measure.map(Measure::finish),
        };
        (self.inner, blob)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        if let Some(measure) = &mut self.measure {
            measure.update(&buf[..n]);
        }
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
