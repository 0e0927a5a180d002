// SPDX-License-Identifier: GPL-2.0
#![no_main]

//! The module's whole read path in user space (`kmod-host`): packs, chunks, metadata, extents, and
//! what fills folios, over an image that the bytes make, sound or damaged, with right digests.
//!
//! - Nothing panics, no task waits for itself, nothing allocates what the kernel would warn of.
//! - Each page of a file has the same bytes, or fails by the same error, whichever way it is read:
//!   page by page, in windows of any size and folios of any size, at random, small files through
//!   the page cache of their chunk, several chunks at once, while pages are reclaimed. A folio of
//!   several pages fails as a whole.
//! - An allocation that fails, or a task that is killed, gives ENOMEM or EINTR, or nothing, and
//!   changes nothing for later reads.
//! - What is not damaged can be read, and is what was put there.
//! - Memory in use and reads of the layout are bounded, and all memory is given back.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kmod_host::ways::check(bytes));
