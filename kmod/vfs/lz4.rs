// SPDX-License-Identifier: GPL-2.0

//! Decompression of LZ4 blocks (`include/linux/lz4.h`).

use crate::bindings;
use kernel::prelude::*;

/// Decompresses the first bytes of the block `source`, as many as `destination` has.
///
/// # Errors
///
/// `EIO` unless `source` is sound, up to there, and has that much content.
pub fn decompress(destination: &mut [u8], source: &[u8]) -> Result {
    let source_len = c_int::try_from(source.len()).map_err(|_| EIO)?;
    let len = c_int::try_from(destination.len()).map_err(|_| EIO)?;
    // SAFETY: The buffers are readable and writable for the lengths given, and the function
    // stays within them, whatever the source holds.
    let written = unsafe {
        bindings::LZ4_decompress_safe_partial(
            source.as_ptr(),
            destination.as_mut_ptr(),
            source_len,
            len,
            len,
        )
    };
    // Errors are negative.
    if written == len {
        Ok(())
    } else {
        Err(EIO)
    }
}
