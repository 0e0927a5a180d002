// SPDX-License-Identifier: GPL-2.0

//! Decompression of zstd frames (`include/linux/zstd.h`): as a whole, or in parts.

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A decompression context with its workspace: about 160 KiB.
///
/// # Invariants
///
/// `context` was made by `zstd_init_dctx` in `workspace`, which is neither moved
/// nor freed before it.
pub struct Context {
    context: NonNull<bindings::zstd_dctx>,
    workspace: KVVec<u64>,
}

// SAFETY: The context is plain memory that no other thread refers to.
unsafe impl Send for Context {}

impl Context {
    /// Allocates a context.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: A pure function.
        let size = unsafe { bindings::zstd_dctx_workspace_bound() };
        // `u64` for the alignment that zstd asks of a workspace.
        let mut workspace =
            KVVec::<u64>::with_capacity(size.div_ceil(size_of::<u64>()), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The workspace has `size` writable bytes.
        let context = unsafe { bindings::zstd_init_dctx(workspace.as_mut_ptr().cast(), size) };
        // INVARIANT: The context was just made in `workspace`.
        Ok(Self {
            context: NonNull::new(context).ok_or(ENOMEM)?,
            workspace,
        })
    }

    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.workspace.capacity() * size_of::<u64>()
    }

    /// Decompresses the whole frames of `source` into `destination`.
    ///
    /// # Errors
    ///
    /// `EIO` unless `source` is whole, sound frames whose content fills `destination`
    /// exactly.
    pub fn decompress(&mut self, destination: &mut [u8], source: &[u8]) -> Result {
        // SAFETY: By the invariants the context is valid, `&mut self` makes it ours alone;
        // the buffers are readable and writable for the lengths given.
        let written = unsafe {
            bindings::zstd_decompress_dctx(
                self.context.as_ptr(),
                destination.as_mut_ptr().cast(),
                destination.len(),
                source.as_ptr().cast(),
                source.len(),
            )
        };
        // An error code is a huge size, so it differs from the length too.
        if written == destination.len() {
            Ok(())
        } else {
            Err(EIO)
        }
    }
}

/// A context that decompresses a frame little by little, with its workspace: as large as
/// the largest window that it can do and some 500 KiB.
///
/// # Invariants
///
/// As of [`Context`], made by `zstd_init_dstream`.
pub struct Stream {
    stream: NonNull<bindings::zstd_dstream>,
    workspace: KVVec<u64>,
    max_window: usize,
    is_at_end: bool,
}

// SAFETY: As for `Context`.
unsafe impl Send for Stream {}

impl Stream {
    /// Allocates a context for frames with windows of up to `max_window` bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(max_window: usize) -> Result<Self> {
        // SAFETY: A pure function.
        let size = unsafe { bindings::zstd_dstream_workspace_bound(max_window) };
        let mut workspace =
            KVVec::<u64>::with_capacity(size.div_ceil(size_of::<u64>()), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The workspace has `size` writable bytes.
        let stream =
            unsafe { bindings::zstd_init_dstream(max_window, workspace.as_mut_ptr().cast(), size) };
        // INVARIANT: The context was just made in `workspace`.
        Ok(Self {
            stream: NonNull::new(stream).ok_or(ENOMEM)?,
            workspace,
            max_window,
            is_at_end: false,
        })
    }

    /// The largest window that it can do, in bytes.
    pub fn max_window(&self) -> usize {
        self.max_window
    }

    /// How much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.workspace.capacity() * size_of::<u64>()
    }

    /// Begins with a new frame, which has this header.
    ///
    /// # Errors
    ///
    /// As of [`Stream::read`].
    pub fn begin(&mut self, mut header: &[u8]) -> Result {
        // SAFETY: By the invariants; this cannot fail on a context that is initialised.
        unsafe { bindings::zstd_reset_dstream(self.stream.as_ptr()) };
        self.read(&mut [], &mut header).map(|_| ())
    }

    /// Whether the frame was read to its end.
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Fills `destination` with the next bytes of the frame's content, as far as `source`, which
    /// is what follows of the frame, yields them. Returns how many, and leaves in `source` what
    /// follows after that.
    ///
    /// # Errors
    ///
    /// `EIO` when the frame is not sound, has too large a window, or nothing follows of either
    /// content or frame.
    pub fn read(&mut self, destination: &mut [u8], source: &mut &[u8]) -> Result<usize> {
        let mut output = bindings::zstd_out_buffer {
            dst: destination.as_mut_ptr().cast(),
            size: destination.len(),
            pos: 0,
        };
        let mut input = bindings::zstd_in_buffer {
            src: source.as_ptr().cast(),
            size: source.len(),
            pos: 0,
        };
        // SAFETY: By the invariants the context is valid, `&mut self` makes it ours alone; the
        // buffers are writable and readable for the lengths given.
        let result = unsafe {
            let stream = self.stream.as_ptr();
            bindings::zstd_decompress_stream(stream, &mut output, &mut input)
        };
        // SAFETY: A pure function.
        let is_error = unsafe { bindings::zstd_is_error(result) } != 0;
        if is_error || (output.pos, input.pos) == (0, 0) {
            return Err(EIO);
        }
        self.is_at_end = result == 0;
        *source = source.get(input.pos..).ok_or(EIO)?;
        Ok(output.pos)
    }
}
