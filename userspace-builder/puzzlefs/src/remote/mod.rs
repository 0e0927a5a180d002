// SPDX-License-Identifier: Apache-2.0
//! Where images come from and go to, whatever serves them: a registry, or another layout.
//!
//! - `seam`: what a place that images come from can do;
//! - `layout`, `registry`: such places; `place`: what the command line calls one;
//! - [`push`]: an image goes to a registry; `sent`: what of it; [`with`]: an ordinary image beside it.

mod layout;
mod place;
pub mod push;
mod registry;
mod seam;
mod sent;
pub mod with;

pub use layout::Local;
pub use place::{open, Opened, Place};
pub use seam::{Document, Part, Remote};
