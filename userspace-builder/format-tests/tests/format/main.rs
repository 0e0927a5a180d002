// SPDX-License-Identifier: Apache-2.0
//! The format's readers against other ones, and on any bytes.

mod blocks;
mod entries;
mod example;
mod hostile;
mod layers;
mod limits;
mod lz4;
mod manifest;
mod metadata;
mod packs;
mod real;
mod scopes;
mod seek_table;
mod small_domains;
mod zstd_frame;
