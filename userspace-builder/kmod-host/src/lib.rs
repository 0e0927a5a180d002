// SPDX-License-Identifier: GPL-2.0

//! The rooms of the kernel module in user space: the files of `kmod/`, as they are, over stand-ins
//! for the kernel's crate and for `vfs`. What they do for a mount, an image ([`Image`]) does here.
//!
//! So they can be tested without a kernel, room by room (`src/tests/`), and fuzzed (`fuzz/targets/
//! read_path.rs`). What is left to the tests in a kernel: the VFS itself, `kmod/vfs`, the room
//! `mount`, and what depends on real memory, disks and processors.

// Tests see what a room keeps to itself (`src/tests/content/`).
#![cfg_attr(test, allow(clippy::duplicate_mod))]

macro_rules! rooms {
    ($($room:ident $path:literal,)*) => {
        $(
            // What only the room `mount` and the top use is not used here.
            #[allow(dead_code, unreachable_pub, unused_imports)]
            #[forbid(unsafe_code)]
            #[path = $path]
            mod $room;
        )*
    };
}

rooms! {
    chunks "../../../kmod/chunks/mod.rs",
    content "../../../kmod/content/mod.rs",
    filling "../../../kmod/filling/mod.rs",
    inode "../../../kmod/inode/mod.rs",
    layout "../../../kmod/layout.rs",
    metadata "../../../kmod/metadata/mod.rs",
    report "../../../kmod/report/mod.rs",
    sharing "../../../kmod/sharing/mod.rs",
    tables "../../../kmod/tables/mod.rs",
}

pub mod chunk;
pub mod image;
pub mod message;
pub mod recipe;
pub mod ways;

#[cfg(test)]
mod tests;

pub use image::{File, How, Image, Inode, Kind, Machine, Request};
