// SPDX-License-Identifier: GPL-2.0

//! SHA-256 (`include/crypto/sha2.h`).

use crate::{bindings, task::killed};
use kernel::prelude::*;

/// How much is hashed at once: one call holds the FPU, and with it this processor's
/// softirqs, for as long as it takes.
const STEP_BYTES: usize = 64 << 10;

/// How much is hashed between two looks for a fatal signal: some milliseconds.
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
pub struct Hasher(bindings::sha256_ctx);

impl Default for Hasher {
    fn default() -> Self {
        let mut context = pin_init::zeroed();
        // SAFETY: The context is writable.
        unsafe { bindings::sha256_init(&mut context) };
        Self(context)
    }
}

impl Hasher {
    /// Hashes the next `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(STEP_BYTES) {
            // SAFETY: The context is initialised, each part is readable for its length.
            unsafe {
                bindings::vfs_rs_sha256_update(&mut self.0, part.as_ptr(), part.len());
            }
        }
    }

    /// The digest of all of them.
    pub fn finish(mut self) -> [u8; 32] {
        let mut out = [0; 32];
        // SAFETY: The context is initialised, `out` is writable for `SHA256_DIGEST_SIZE` bytes.
        unsafe { bindings::sha256_final(&mut self.0, out.as_mut_ptr()) };
        out
    }
}
