// SPDX-License-Identifier: Apache-2.0

//! Damaged metadata: no panic, and what is still accepted is what the `capnp`
//! crate reads, too.

use format_tests::agree::{agree, Expect};
use format_tests::damage::{apply, damage};
use format_tests::{config, model, relocate::relocate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use puzzlefs_format::{Error, Rootfs};

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn damaged(
        rootfs in model::rootfs(),
        segments in 1..6usize,
        seed: u64,
        damage in vec(damage(), 1..4),
    ) {
        let mut message = relocate(&rootfs.write(1 << 16), segments, seed);
        apply(&mut message, &damage);
        agree(&message, Expect::Anything);
    }

    #[test]
    fn cut_short(rootfs in model::rootfs(), segment_words in 1..99u32, end: Index) {
        let message = rootfs.write(segment_words);
        let end = end.index(message.len());
        prop_assert_eq!(Rootfs::parse(&message[..end]).err(), Some(Error::Truncated));
        let longer = [&message[..], b"\0"].concat();
        prop_assert_eq!(Rootfs::parse(&longer).err(), Some(Error::TrailingBytes));
    }

    /// Random words behind a segment table that fits them.
    #[test]
    fn random(words in vec(prop_oneof![any::<u64>(), 0..64u64], 1..40)) {
        let mut message = vec![0; 4];
        message.extend((words.len() as u32).to_le_bytes());
        message.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        agree(&message, Expect::Anything);
    }
}
