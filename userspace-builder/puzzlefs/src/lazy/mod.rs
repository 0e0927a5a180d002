// SPDX-License-Identifier: Apache-2.0
//! Packs that are there before their chunks are (FORMAT.md, section 2.3): fetching these, in whatever order they are
//! wanted.
//!
//! - [`Pack`]: such a pack, to be written to;
//! - [`Engine`]: who wants which chunks, and who fetches them; `queue`: what is fetched next, `listed`: of what images
//!   list as read first, `filling`: what is known of a pack;
//! - [`first`]: what images list;
//! - `fetch`: bytes of a source become checked chunks of a pack; [`Origins`]: the sources, once they were opened;
//! - [`fill`]: fetching chunks while somebody waits at a terminal;
//! - [`status`]: how much of an image is there.

mod engine;
mod fetch;
pub mod fill;
mod filling;
pub mod first;
mod listed;
mod origins;
mod pack;
mod queue;
pub mod status;

pub use engine::{Engine, Told};
pub use origins::Origins;
pub use pack::Pack;
