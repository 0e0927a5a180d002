// SPDX-License-Identifier: GPL-2.0

//! Decompression of LZ4 blocks (`LZ4_decompress_safe`).

use crate::Output;
use kernel::prelude::*;

/// Decompresses the block `source` into the next `len` bytes of `output`.
///
/// # Errors
///
/// `EIO` unless `source` is whole and sound, and its content has that length; `EINVAL` when
/// there is no room for that.
pub fn decompress(output: &mut Output<'_>, len: usize, source: &[u8]) -> Result {
    let memory = output.next(len)?;
    let size = c_int::try_from(len).map_err(|_| EIO)?;
    let written = lz4::block::decompress_to_buffer(source, Some(size), memory);
    if written.ok() != Some(len) {
        return Err(EIO);
    }
    output.advance(len);
    Ok(())
}
