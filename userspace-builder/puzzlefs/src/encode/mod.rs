// SPDX-License-Identifier: Apache-2.0
//! Bytes of files become stored chunks.
//!
//! - [`chunker`]: where chunks begin and end;
//! - [`holes`]: what of a file is a hole;
//! - [`batch`]: which small files are in one chunk;
//! - [`compress`]: how a chunk is stored;
//! - [`known`]: how chunks of earlier builds are stored;
//! - [`pipeline`]: all of this on all processors, in order.

pub(crate) mod batch;
pub mod chunker;
pub mod compress;
pub(crate) mod holes;
pub(crate) mod known;
pub(crate) mod pipeline;

/// Another number with each change of what this room makes of the same bytes. Whatever was kept of
/// builds by other rules is not used: so the same tree gives the same image, with a cache or without.
pub const RULES: u32 = 2;
