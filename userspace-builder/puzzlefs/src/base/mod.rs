// SPDX-License-Identifier: Apache-2.0
//! What knows nothing of images: digests, text for terminals, times, how far work is.

pub mod digest;
pub mod progress;
pub mod text;
pub mod time;
pub mod verity;
