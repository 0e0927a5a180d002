// SPDX-License-Identifier: GPL-2.0

//! Decompression of LZ4 blocks (`include/linux/lz4.h`).

use crate::bindings;
use kernel::prelude::*;

/// Decompresses the block `source` into `destination`.
///
/// # Errors
///
/// `EIO` unless `source` is whole and sound, and its content fills `destination` exactly.
pub fn decompress(destination: &mut [u8], source: &[u8]) -> Result {
    let (source_len, len) = lengths(destination, source)?;
    // SAFETY: The buffers are readable and writable for the lengths given, and the function
    // stays within them, whatever the source holds.
    let written = unsafe {
        let (from, to) = (source.as_ptr(), destination.as_mut_ptr());
        bindings::LZ4_decompress_safe(from, to, source_len, len)
    };
    // Errors are negative.
    (written == len).then_some(()).ok_or(EIO)
}

/// Decompresses the first bytes of the block `source`, as many as `destination` has.
///
/// # Errors
///
/// `EIO` unless `source` is sound, up to there, and has that much content.
pub fn decompress_begin(destination: &mut [u8], source: &[u8]) -> Result {
    let (source_len, len) = lengths(destination, source)?;
    // A match at distance 0, which no compressor writes, leaves what was there as it was:
    // only when a whole block is decompressed does lib/lz4 write zeros then.
    destination.fill(0);
    // SAFETY: As above.
    let written = unsafe {
        let (from, to) = (source.as_ptr(), destination.as_mut_ptr());
        bindings::LZ4_decompress_safe_partial(from, to, source_len, len, len)
    };
    (written == len).then_some(()).ok_or(EIO)
}

fn lengths(destination: &[u8], source: &[u8]) -> Result<(c_int, c_int)> {
    let len = |bytes: &[u8]| c_int::try_from(bytes.len()).map_err(|_| EIO);
    Ok((len(source)?, len(destination)?))
}
