// SPDX-License-Identifier: GPL-2.0

//! Decompression of LZ4 blocks (`include/linux/lz4.h`).

use crate::{bindings, Output};
use kernel::prelude::*;

/// Decompresses the block `source` into the next `len` bytes of `output`.
///
/// A match at distance 0, which no compressor writes, gives zeros here, but not in
/// `LZ4_decompress_safe_partial`: that leaves what was in memory before.
///
/// # Errors
///
/// `EIO` unless `source` is whole and sound, and its content has that length; `EINVAL` when
/// there is no room for that.
pub fn decompress(output: &mut Output<'_>, len: usize, source: &[u8]) -> Result {
    let memory = output.next(len)?;
    let source_len = c_int::try_from(source.len()).map_err(|_| EIO)?;
    let memory_len = c_int::try_from(memory.len()).map_err(|_| EIO)?;
    // SAFETY: The buffers are readable and writable for the lengths given, and the function
    // stays within them, whatever the source holds.
    let written = unsafe {
        let (from, to) = (source.as_ptr(), memory.as_mut_ptr().cast());
        bindings::LZ4_decompress_safe(from, to, source_len, memory_len)
    };
    // Errors are negative.
    if written != memory_len {
        return Err(EIO);
    }
    // SAFETY: The function returns how many bytes it has written one after another. Those of a
    // match are copies of bytes in front of it, or zeros.
    unsafe { output.advance(len) };
    Ok(())
}
