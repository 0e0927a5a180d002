// SPDX-License-Identifier: GPL-2.0

//! Decompression of zstd frames: as a whole (`zstd_decompress_dctx`), or in parts
//! (`zstd_decompress_stream`). The library is that of the kernel.

use crate::Output;
use kernel::{alloc::Charge, prelude::*};
use zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

/// What `zstd_dctx_workspace_bound` says, about.
const CONTEXT_BYTES: usize = 160 << 10;

/// What `zstd_dstream_workspace_bound` says beyond the window: the context, and three blocks.
const STREAM_BYTES: usize = CONTEXT_BYTES + 3 * (128 << 10) + 64;

/// A decompression context (`zstd_init_dctx`).
pub struct Context {
    context: DCtx<'static>,
    _charge: Charge,
}

impl Context {
    /// Allocates a context.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let _charge = Charge::new(CONTEXT_BYTES)?;
        let context = DCtx::try_create().ok_or(ENOMEM)?;
        Ok(Self { context, _charge })
    }

    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        CONTEXT_BYTES
    }

    /// Decompresses the whole frames of `source` into the next `len` bytes of `output`.
    ///
    /// # Errors
    ///
    /// `EIO` unless `source` is whole, sound frames whose content has that length; `EINVAL`
    /// when there is no room for that.
    pub fn decompress(&mut self, output: &mut Output<'_>, len: usize, source: &[u8]) -> Result {
        let memory = output.next(len)?;
        if self.context.decompress(memory, source) != Ok(len) {
            return Err(EIO);
        }
        output.advance(len);
        Ok(())
    }
}

/// A context that decompresses a frame little by little (`zstd_init_dstream`).
pub struct Stream {
    stream: DCtx<'static>,
    max_window: usize,
    is_at_end: bool,
    _charge: Charge,
}

impl Stream {
    /// Allocates a context for frames with windows of up to `max_window` bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(max_window: usize) -> Result<Self> {
        let _charge = Charge::new(max_window + STREAM_BYTES)?;
        Ok(Self {
            stream: DCtx::try_create().ok_or(ENOMEM)?,
            max_window,
            is_at_end: false,
            _charge,
        })
    }

    /// The largest window that it can do, in bytes.
    pub fn max_window(&self) -> usize {
        self.max_window
    }

    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.max_window + STREAM_BYTES
    }

    /// Begins with a new frame, which has this header (`zstd_reset_dstream`).
    ///
    /// # Errors
    ///
    /// As of [`Stream::read`].
    pub fn begin(&mut self, mut header: &[u8]) -> Result {
        // In the kernel the context cannot grow: a larger window does not fit.
        if window(header).is_none_or(|window| window > self.max_window as u64) {
            return Err(EIO);
        }
        self.stream
            .reset(ResetDirective::SessionOnly)
            .map_err(|_| EIO)?;
        let mut written = 0;
        self.read(&mut Output::resume(&mut [], &mut written), 0, &mut header)
    }

    /// Whether the frame was read to its end.
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Writes the next bytes of the frame's content to `output`, up to `len`, as far as `source`,
    /// which is what follows of the frame, yields them. Leaves in `source` what follows after that.
    ///
    /// # Errors
    ///
    /// `EIO` when the frame is not sound, or nothing follows of either content or frame; `EINVAL`
    /// when there is no room for `len` bytes.
    pub fn read(&mut self, output: &mut Output<'_>, len: usize, source: &mut &[u8]) -> Result {
        let memory = output.next(len)?;
        let mut out = OutBuffer::around(memory);
        let mut input = InBuffer::around(source);
        let result = self.stream.decompress_stream(&mut out, &mut input);
        let (written, read) = (out.pos(), input.pos());
        let hint = result.map_err(|_| EIO)?;
        if (written, read) == (0, 0) {
            return Err(EIO);
        }
        output.advance(written);
        self.is_at_end = hint == 0;
        *source = source.get(read..).ok_or(EIO)?;
        Ok(())
    }
}

/// The window that a header without a content size asks for: all that is given here are such.
fn window(header: &[u8]) -> Option<u64> {
    let byte = u32::from(*header.get(5)?);
    let base = 1_u64.checked_shl(10 + (byte >> 3))?;
    Some(base + u64::from(byte & 7) * (base >> 3))
}
