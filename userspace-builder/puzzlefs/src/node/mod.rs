// SPDX-License-Identifier: Apache-2.0
//! The node, which has images for those who run on it.
//!
//! - `images`: images of its layout, brought and kept;
//! - `service`: a process of the node that mounts them for containers, which ask at a socket; `allowed`: which of them it
//!   pulls for that; `clients`: how much each of those who ask may have; `few`: how many lines they cause;
//! - `wire`: what it and they say to each other; [`ask()`]: how it is asked.
//!
//! It is no part of the daemon: who mounts waits for whoever serves the image, and whoever answers the kernel's questions
//! must wait for nobody.

#[cfg(feature = "command")]
mod allowed;
mod ask;
#[cfg(feature = "command")]
mod clients;
#[cfg(feature = "command")]
mod few;
#[cfg(feature = "command")]
mod images;
#[cfg(feature = "command")]
mod service;
mod wire;

#[cfg(feature = "command")]
pub use allowed::Allowed;
pub use ask::{ask, Asked};
#[cfg(feature = "command")]
pub use images::{Node, Pull};
#[cfg(feature = "command")]
pub use service::{Options, Service, KEPT};
