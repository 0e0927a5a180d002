// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A Rootfs message, against the `capnp` crate: what we accept it reads, too, and alike.

use format_tests::agree::{agree, Expect};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use puzzlefs_fuzz::words;

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    words::mutate(data, size, max, seed)
});

fuzz_target!(|message: &[u8]| {
    agree(message, Expect::Anything);
});
