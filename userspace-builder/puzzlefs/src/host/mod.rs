// SPDX-License-Identifier: Apache-2.0
//! Files of the host, where the standard library has no call, or one that follows links.

pub(crate) mod beneath;
pub(crate) mod dir;
pub mod xattr;
