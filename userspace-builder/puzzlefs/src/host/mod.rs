// SPDX-License-Identifier: Apache-2.0
//! Files of the host, where the standard library has no call, or one that follows links.

pub(crate) mod beneath;
pub(crate) mod dir;
pub(crate) mod kernel_fs;
pub(crate) mod private;
pub(crate) mod stat;
pub mod xattr;
