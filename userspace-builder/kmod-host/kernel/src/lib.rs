// SPDX-License-Identifier: GPL-2.0

//! What the kernel module takes of the kernel crate, in user space, as far as its rooms need it:
//! each item does what the one of that name in the kernel's `rust/kernel` does, and says where it
//! is different. Beyond that, tests can see what is allocated, and have allocations fail
//! ([`alloc`]).

pub mod alloc;
pub mod cpu;
pub mod error;
pub mod init;
pub mod page;
pub mod rbtree;
pub mod sync;
mod vec;

pub use core::fmt;

/// What every file of the module imports (`rust/kernel/prelude.rs`).
pub mod prelude {
    pub use crate::alloc::{KBox, GFP_KERNEL, GFP_KERNEL_ACCOUNT};
    pub use crate::error::{code::*, Error, Result};
    pub use crate::init::PinInit;
    pub use crate::pin_init;
    pub use crate::vec::{KVVec, KVec};
    pub use core::ffi::{c_int, CStr};
    pub use core::pin::Pin;
    pub use host_macros::pin_data;
}
