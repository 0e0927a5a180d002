// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A Rootfs message, all that can be asked of it.
//!
//! - Nothing panics, and what is accepted is within its limits and means what its type says.
//! - Bytes that are handed out are bytes of the message.
//! - No step reads more than a few parts, and what goes through a list not more than a few for
//!   each element; a list has no more elements than the message has words.
//! - In memory and in parts of any size all is the same, errors too.
//! - What bisection finds in sorted directories, a search finds, too.

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use puzzlefs_format::Rootfs;
use puzzlefs_fuzz::{parts::Parts, walk::Walk, words};

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    words::mutate(data, size, max, seed)
});

fuzz_target!(|message: &[u8]| {
    let seed = message.last_chunk().copied().map_or(0, u64::from_le_bytes);
    let parts = Parts::new(message, seed);
    let in_memory = Rootfs::parse(message);
    // The version that the blob of a message in blocks would say.
    let version = in_memory.map_or(0, |rootfs| rootfs.version());
    let in_parts = Rootfs::parse_source(&parts, version);
    let (in_memory, in_parts) = match (in_memory, in_parts) {
        (Ok(in_memory), Ok(in_parts)) => (in_memory, in_parts),
        (in_memory, in_parts) => return assert_eq!(in_memory.err(), in_parts.err()),
    };
    // What the one has found is of use for the other.
    let (in_memory, in_parts) = match seed & 1 {
        0 => (in_memory, in_parts),
        _ => (
            in_parts.head().in_memory(message),
            in_memory.head().in_source(&parts),
        ),
    };
    let count = Parts::new(message, seed);
    let of_parts = Walk::new(message, Some(&parts)).all(&in_parts);
    assert_eq!(Walk::new(message, None).all(&in_memory), of_parts);
    // Parsing alone: the frame, the pointers to the layers, and each layer.
    let _ = Rootfs::parse_source(&count, version);
    assert!(count.asked() <= 16 * (8 + u64::from(in_memory.layers())));
});
