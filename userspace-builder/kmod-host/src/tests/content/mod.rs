// SPDX-License-Identifier: GPL-2.0

//! The room `content`. Its parts are its own: they are compiled once more, where tests see them.

#[allow(dead_code, unreachable_pub)]
#[path = "../../../../../kmod/content/decoder.rs"]
mod decoder;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../../kmod/content/pool.rs"]
mod pool;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../../kmod/content/slot.rs"]
mod slot;

mod decoding;
mod pooling;
