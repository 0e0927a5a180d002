// SPDX-License-Identifier: GPL-2.0

//! Decompression of zstd frames (`include/linux/zstd.h`): as a whole, or in parts.

use crate::{bindings, Output};
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
    /// Allocates a context, for which no cgroup pays.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: A pure function.
        let size = unsafe { bindings::zstd_dctx_workspace_bound() };
        // `u64` for the alignment that zstd asks of a workspace.
        let mut workspace =
            KVVec::<u64>::with_capacity(size.div_ceil(size_of::<u64>()), GFP_KERNEL)?;
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

    /// Decompresses the whole frames of `source` into the next `len` bytes of `output`.
    ///
    /// # Errors
    ///
    /// `EIO` unless `source` is whole, sound frames whose content has that length; `EINVAL`
    /// when there is no room for that.
    pub fn decompress(&mut self, output: &mut Output<'_>, len: usize, source: &[u8]) -> Result {
        let memory = output.next(len)?;
        // SAFETY: By the invariants the context is valid, `&mut self` makes it ours alone;
        // the buffers are readable and writable for the lengths given.
        let written = unsafe {
            bindings::zstd_decompress_dctx(
                self.context.as_ptr(),
                memory.as_mut_ptr().cast(),
                memory.len(),
                source.as_ptr().cast(),
                source.len(),
            )
        };
        // An error code is a huge size, so it differs from the length too.
        if written != len {
            return Err(EIO);
        }
        // SAFETY: The function returns how many bytes it has written, one after another.
        unsafe { output.advance(len) };
        Ok(())
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
    /// Allocates a context for frames with windows of up to `max_window` bytes, for which no
    /// cgroup pays.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(max_window: usize) -> Result<Self> {
        // SAFETY: A pure function.
        let size = unsafe { bindings::zstd_dstream_workspace_bound(max_window) };
        let mut workspace =
            KVVec::<u64>::with_capacity(size.div_ceil(size_of::<u64>()), GFP_KERNEL)?;
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
    /// `EIO` when the frame is not sound, has too large a window, or nothing follows of either
    /// content or frame; `EINVAL` when there is no room for `len` bytes.
    pub fn read(&mut self, output: &mut Output<'_>, len: usize, source: &mut &[u8]) -> Result {
        let memory = output.next(len)?;
        let mut out = bindings::zstd_out_buffer {
            dst: memory.as_mut_ptr().cast(),
            size: memory.len(),
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
            bindings::zstd_decompress_stream(stream, &mut out, &mut input)
        };
        // SAFETY: A pure function.
        let is_error = unsafe { bindings::zstd_is_error(result) } != 0;
        if is_error || (out.pos, input.pos) == (0, 0) {
            return Err(EIO);
        }
        // SAFETY: Unless it fails the function says in `pos` how many bytes it has written, one
        // after another: copies of what its own memory holds of the content.
        unsafe { output.advance(out.pos) };
        self.is_at_end = result == 0;
        *source = source.get(input.pos..).ok_or(EIO)?;
        Ok(())
    }
}
