// SPDX-License-Identifier: Apache-2.0
//! Packs that are there before their chunks are (FORMAT.md, section 2.3): fetching these, in whatever order they are
//! wanted.
//!
//! - [`Pack`]: such a pack, to be written to;
//! - [`Engine`]: who wants which chunks, and who fetches them; `queue`: what is fetched next, `listed`: of what images
//!   list as read first, `filling`: what is known of a pack;
//! - [`first`]: what images list; [`Pace`]: when nothing is fetched, for a rate or a full disk;
//! - `fetch`: bytes become checked chunks of a pack: of `neighbours`, other packs of the node, or of [`Origins`], the
//!   sources, once they were opened; [`counts`]: what came from where;
//! - [`fill`]: fetching chunks while somebody waits at a terminal;
//! - [`status`]: how much of an image is there.

pub mod counts;
mod engine;
mod fetch;
pub mod fill;
mod filling;
pub mod first;
mod listed;
mod neighbours;
mod origins;
mod pace;
mod pack;
mod queue;
pub mod status;

pub use engine::{Engine, Told, UnderWay};
pub use origins::Origins;
pub use pace::Pace;
pub use pack::Pack;
