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
//! - [`Fetcher`]: an engine for readers in threads of this process, which [`Waits`] has; [`tend`]: what any engine that
//!   serves readers needs from time to time; [`log`]: what people are told;
//! - [`fill`]: fetching chunks while somebody waits at a terminal;
//! - [`status`]: how much of an image is there.

pub mod counts;
mod engine;
mod fetch;
mod fetcher;
pub mod fill;
mod filling;
pub mod first;
mod listed;
pub mod log;
mod neighbours;
mod origins;
mod pace;
mod pack;
mod queue;
pub mod status;
mod tend;
mod waits;

pub use engine::{Engine, Told, UnderWay};
pub use fetcher::{Absent, Fetcher, Options, Patience};
pub use origins::Origins;
pub use pace::Pace;
pub use pack::Pack;
pub use tend::{tend, OnFailure};
pub use waits::Waits;
