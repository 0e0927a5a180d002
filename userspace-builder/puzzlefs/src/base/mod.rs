// SPDX-License-Identifier: Apache-2.0
//! What knows nothing of images: digests, text for terminals, times, how far work is, kinds of
//! errors, what is to be removed when a signal comes, and who else gets it.

pub(crate) mod child;
pub mod cleanup;
pub mod digest;
pub mod error;
pub(crate) mod passing;
pub mod progress;
pub mod text;
pub mod time;
pub mod verity;
