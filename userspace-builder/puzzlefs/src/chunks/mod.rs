// SPDX-License-Identifier: Apache-2.0
//! Where the chunks of images are stored in a layout: in packs, or each in a blob of its own.
//!
//! - [`compose`]: packs of another layout, from chunks of this one;
//! - [`list`]: those that are read first, as an image lists them;
//! - `open`: packs that are open;
//! - [`pack`]: a pack on disk;
//! - [`codec`]: how one is stored;
//! - [`presence`]: which chunks of a pack are there, if not all are;
//! - [`places`]: finding chunks, and reading them as they are stored;
//! - [`sink`]: storing them; `waiting`: those whose order is not known yet.

pub(crate) mod codec;
pub mod compose;
pub mod list;
mod open;
pub mod pack;
pub(crate) mod places;
pub mod presence;
pub mod sink;
pub(crate) mod waiting;
