// SPDX-License-Identifier: Apache-2.0
//! Changing a layout that has images already.
//!
//! - [`gc`]: removing what is not in use;
//! - [`remove`]: removing a tag;
//! - [`convert`]: chunks into packs, and out of them;
//! - `images`: the images that are converted, and their new manifests;
//! - `keep`: the packs that stay as they are;
//! - `order`: the chunks that are read first;
//! - `origin`: the manifests of before, which somebody may have signed.

pub mod convert;
pub mod gc;
mod images;
mod keep;
mod order;
mod origin;
pub mod remove;
