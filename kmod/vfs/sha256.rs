// SPDX-License-Identifier: GPL-2.0

//! SHA-256 (`include/crypto/sha2.h`).

use crate::bindings;

/// How much is hashed at once: one call holds the FPU, and with it this processor's
/// softirqs, for as long as it takes.
const STEP_BYTES: usize = 64 << 10;

/// The SHA-256 digest of `bytes`.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut context = pin_init::zeroed();
    let mut out = [0; 32];
    // SAFETY: The context is initialised before its use, each part is readable for its
    // length, `out` is writable for `SHA256_DIGEST_SIZE` bytes.
    unsafe {
        bindings::sha256_init(&mut context);
        for part in bytes.chunks(STEP_BYTES) {
            bindings::vfs_rs_sha256_update(&mut context, part.as_ptr(), part.len());
        }
        bindings::sha256_final(&mut context, out.as_mut_ptr());
    }
    out
}
