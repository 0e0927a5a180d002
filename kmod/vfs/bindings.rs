// SPDX-License-Identifier: GPL-2.0

//! Bindings of the C API: those of the `kernel` crate, and those that it lacks,
//! which bindgen makes from `bindings.h`. An item of the latter hides an opaque
//! one of the former with the same name.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

pub(crate) use kernel::bindings::*;
use pin_init::MaybeZeroable;

include!(env!("VFS_BINDINGS"));
