// SPDX-License-Identifier: Apache-2.0
//! Where images come from and go to, whatever serves them: a registry, another layout, here or on
//! another machine, or a web server that has one.
//!
//! - `seam`: what a place that images come from can do;
//! - `layout`, `registry`, `ssh`, `s3`: such places; `place`: what the command line calls one; `first`: several of them;
//! - [`serve()`]: a layout answers who asks by `ssh`; `wire`: what they say to each other;
//! - [`push`]: an image goes to a registry; `sent`: what of it; [`with`]: an ordinary image beside it.

mod first;
mod layout;
mod place;
pub mod push;
mod registry;
pub mod s3;
mod seam;
mod sent;
mod serve;
pub mod ssh;
mod wire;
pub mod with;

pub use first::first_of;
pub use layout::Local;
pub use place::{open, Opened, Place};
pub use seam::{Document, Part, Remote};
pub use serve::serve;
