// SPDX-License-Identifier: Apache-2.0
//! Fetching what somebody reads of lazy packs, while that waits: fanotify(7)'s pre-content events.
//!
//! - [`supervise`]: a small process that holds the descriptor of the events, and every event until it is answered;
//! - [`work`]: another one, which fetches, and may die at any moment: the next one is given all events again;
//! - `wire`: what they say to each other; `known`: which pack a file is; `notify`: what systemd is told;
//! - [`inherit`]: what it keeps while there is no supervisor;
//! - `log`: what people are told; [`metrics`]: numbers; `listen`: who asks for them.

mod known;
mod listen;
mod log;
pub mod metrics;
mod notify;
mod store;
mod supervisor;
mod wire;
mod worker;

pub use listen::{ask, Address};
pub use store::{inherit, Inherited};
pub use supervisor::supervise;
pub use worker::{work, OnFailure, Options};
