// SPDX-License-Identifier: Apache-2.0
//! Changing a layout that has images already.
//!
//! - [`gc`]: removing what is not in use;
//! - [`convert`]: chunks into packs, and out of them; and which packs stay for that (`keep`).

pub mod convert;
pub mod gc;
mod keep;
