// SPDX-License-Identifier: GPL-2.0

//! The kernel log, never without limit.

use crate::{bindings, filesystem::FileSystem, super_block::SuperBlock};
use kernel::{fmt, prelude::*, print, str::CString, types::Opaque};

/// The kernel log for one superblock: each line names it, and only its own lines count for the
/// limit (`struct ratelimit_state`), so that one broken image cannot silence another.
#[pin_data]
pub struct KernelLog {
    /// `NAME (s_id)`.
    name: CString,
    #[pin]
    limit: Opaque<bindings::ratelimit_state>,
}

// SAFETY: The limit has a lock of its own, and nothing in it depends on the thread.
unsafe impl Send for KernelLog {}
// SAFETY: As above.
unsafe impl Sync for KernelLog {}

impl KernelLog {
    /// The log for `sb`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new<T: FileSystem, S>(sb: &SuperBlock<T, S>) -> Result<Pin<KBox<Self>>> {
        let name = CString::try_from_fmt(fmt!("{} ({})", T::NAME, sb.id()))?;
        KBox::pin_init(
            pin_init!(Self {
                name,
                limit <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is writable, and stays where it is.
                    unsafe { bindings::vfs_rs_ratelimit_init(slot) }
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Logs a warning. False if there were too many of late: how many were left out, a later
    /// line says.
    pub fn warn(&self, arguments: fmt::Arguments<'_>) -> bool {
        let name = self.name.as_char_ptr();
        // SAFETY: The limit was initialised by `new`; `name` is a C string.
        let is_allowed = unsafe { bindings::___ratelimit(self.limit.get(), name) } != 0;
        if is_allowed {
            // SAFETY: The format string is one of those, and the name ends with a null byte.
            unsafe {
                print::call_printk(
                    &print::format_strings::WARNING,
                    self.name.to_bytes_with_nul(),
                    fmt!("{arguments}\n"),
                )
            };
        }
        is_allowed
    }
}
