// SPDX-License-Identifier: GPL-2.0

//! SHA-256 (`sha256_update`).

use crate::task::killed;
use kernel::prelude::*;
use sha2::{Digest, Sha256};

/// How much is hashed between two looks for a fatal signal.
const KILLABLE_BYTES: usize = 1 << 20;

/// The SHA-256 digest of `bytes`.
///
/// # Errors
///
/// `EINTR` when the task was killed.
pub fn digest(bytes: &[u8]) -> Result<[u8; 32]> {
    let mut hasher = Hasher::default();
    for (number, part) in bytes.chunks(KILLABLE_BYTES).enumerate() {
        if number > 0 && killed() {
            return Err(EINTR);
        }
        hasher.update(part);
    }
    Ok(hasher.finish())
}

/// Hashes what comes piece by piece.
#[derive(Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Hashes the next `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
