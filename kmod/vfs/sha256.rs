// SPDX-License-Identifier: GPL-2.0

//! SHA-256 (`include/crypto/sha2.h`).

use crate::bindings;

/// The SHA-256 digest of `bytes`.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // SAFETY: `bytes` is readable for its length, `out` is writable for
    // `SHA256_DIGEST_SIZE` bytes.
    unsafe { bindings::sha256(bytes.as_ptr(), bytes.len(), out.as_mut_ptr()) };
    out
}
