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
//! - `program`: as whom what runs, at the end.
//!
//! The image's maker is trusted with what runs in the container, and with nothing outside. Whoever serves the image, and
//! whoever can write to a cache that containers share, is trusted with nothing: all follows from the digest that the boot
//! image's layer names.

mod config;
mod fetch;
mod helper;
pub mod make;
pub mod mounts;
mod program;
mod root;
mod start;
pub mod state;

pub use start::start;

/// The directory that a boot image has.
const DIR: &str = "/.puzzlefs";
/// The program, which a boot image has as its entrypoint.
pub const PROGRAM: &str = "/.puzzlefs/boot";
/// What it is to start: see [`state`].
const STATE: &str = "/.puzzlefs/image";
/// Whom TLS trusts: what the machine trusted that the boot image was made on.
const CERTS: &str = "/.puzzlefs/certs";
/// Credentials, if the runtime has put some there.
const AUTH: &str = "/.puzzlefs/auth.json";
/// Chunks that came: those of many containers, where a volume is mounted there.
const CACHE: &str = "/.puzzlefs/cache";
/// What is changed, where a volume is mounted there.
const CHANGES: &str = "/.puzzlefs/changes";
/// A directory on which the root filesystem is put together.
const ROOT: &str = "/.puzzlefs/root";
/// Is there as soon as all of the root filesystem is.
const DONE: &str = "/.puzzlefs/done";
/// What begins so in the environment is for the program, and for nobody after it.
const OURS: &str = "PUZZLEFS_";
