// SPDX-License-Identifier: GPL-2.0

//! The kernel log, never without limit.

use crate::bindings;
use kernel::{fmt, prelude::*};

/// Logs a warning of the filesystem `name`, rate limited (`printk_ratelimited`).
pub fn warn(name: &'static CStr, arguments: fmt::Arguments<'_>) {
    // SAFETY: `name` is a C string; `%pA` in the callee takes a pointer to `Arguments`.
    unsafe {
        bindings::vfs_rs_warn_ratelimited(
            name.as_char_ptr(),
            core::ptr::from_ref(&arguments).cast(),
        )
    };
}
