// SPDX-License-Identifier: GPL-2.0

//! Decompression of LZ4 blocks (`include/linux/lz4.h`).

use crate::bindings;
use kernel::prelude::*;

/// Decompresses the block `source` into `destination`.
///
/// A match at distance 0, which no compressor writes, gives zeros here, but not in
/// `LZ4_decompress_safe_partial`: that leaves what was in memory before.
///
/// # Errors
///
/// `EIO` unless `source` is whole and sound, and its content fills `destination` exactly.
pub fn decompress(destination: &mut [u8], source: &[u8]) -> Result {
    let source_len = c_int::try_from(source.len()).map_err(|_| EIO)?;
    let len = c_int::try_from(destination.len()).map_err(|_| EIO)?;
    // SAFETY: The buffers are readable and writable for the lengths given, and the function
    // stays within them, whatever the source holds.
    let written = unsafe {
        let (from, to) = (source.as_ptr(), destination.as_mut_ptr());
        bindings::LZ4_decompress_safe(from, to, source_len, len)
    };
    // Errors are negative.
    (written == len).then_some(()).ok_or(EIO)
}
