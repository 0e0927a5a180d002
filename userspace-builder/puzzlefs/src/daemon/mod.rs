// SPDX-License-Identifier: Apache-2.0
//! Fetching what somebody reads of lazy packs, while that waits: fanotify(7)'s pre-content events.
//!
//! - [`supervise`]: a small process that holds the descriptor of the events, and every event until it is answered;
//! - [`work`]: another one, which fetches, and may die at any moment: the next one is given all events again;
//! - `wire`: what they say to each other; `known`: which pack a file is; `notify`: what systemd is told;
//! - [`inherit`]: what it keeps while there is no supervisor; [`stand_alone`]: it does not wait for itself;
//! - [`metrics`]: numbers; `listen`: who asks for them.

mod known;
mod listen;
pub mod metrics;
pub(crate) mod notify;
mod own;
mod store;
mod supervisor;
mod wire;
mod worker;

#[cfg(feature = "command")]
pub(crate) use listen::Listener;
pub use listen::{ask, Address};
pub use own::stand_alone;
pub use store::{inherit, Inherited};
pub use supervisor::supervise;
pub use worker::{work, Options};
