// SPDX-License-Identifier: GPL-2.0

//! Decompression of zstd frames (`include/linux/zstd.h`).

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A decompression context with its workspace: about 160 KiB.
///
/// # Invariants
///
/// `context` was made by `zstd_init_dctx` in `_workspace`, which is neither moved
/// nor freed before it.
pub struct Context {
    context: NonNull<bindings::zstd_dctx>,
    _workspace: KVVec<u64>,
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
            KVVec::<u64>::with_capacity(size.div_ceil(size_of::<u64>()), GFP_KERNEL)?;
        // SAFETY: The workspace has `size` writable bytes.
        let context = unsafe { bindings::zstd_init_dctx(workspace.as_mut_ptr().cast(), size) };
        // INVARIANT: The context was just made in `workspace`.
        Ok(Self {
            context: NonNull::new(context).ok_or(ENOMEM)?,
            _workspace: workspace,
        })
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
