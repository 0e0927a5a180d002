// SPDX-License-Identifier: Apache-2.0
//! Boot images: ordinary images of one small layer, whose program gets the root filesystem when a container starts, and
//! then runs what the image is for. So any runtime pulls and runs them, and what is pulled by it is a few megabytes.
//!
//! - [`make`]: such an image is made, and goes to a registry beside the PuzzleFS image;
//! - `config`: its config;
//! - [`state`]: what its program is to start;
//! - [`start()`]: what the program does;
//! - `fetch`: the root filesystem is fetched as a whole, where there is no other way;
//! - `helper`: or it is served by FUSE, and fetched as it is read; `root`: then it is put together from that and mounts;
//! - [`mounts`]: what the runtime has mounted;
//! - `program`: as whom what runs, at the end;
//! - `places`: where all that is in the container.
//!
//! The image's maker is trusted with what runs in the container, and with nothing outside. Whoever serves the image, and
//! whoever can write to a cache that containers share, is trusted with nothing: all follows from the digest that the boot
//! image's layer names.

mod config;
mod fetch;
mod helper;
pub mod make;
pub mod mounts;
mod places;
mod program;
mod root;
mod start;
pub mod state;

pub use start::start;
