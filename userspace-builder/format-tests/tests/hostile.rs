// SPDX-License-Identifier: Apache-2.0

//! Damaged metadata: no panic, and what is still accepted is what the `capnp`
//! crate reads, too.

use format_tests::agree::{agree, Expect};
use format_tests::{config, model, relocate::relocate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use puzzlefs_format::{Error, Rootfs};

/// What to do with a message.
#[derive(Clone, Debug)]
enum Damage {
    /// Flip these bits of a byte.
    Flip(Index, u8),
    /// Overwrite a word with an interesting one.
    Word(Index, u64),
    /// Copy one word over another: pointers that alias or lead astray.
    Copy(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let interesting = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        // A composite list of no words and many elements; a far pointer to itself.
        Just((7 << 32) | 1),
        Just(2),
        Just(((1 << 30) - 1) << 2),
        any::<u64>(),
    ];
    prop_oneof![
        (any::<Index>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<Index>(), interesting).prop_map(|(at, word)| Damage::Word(at, word)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Copy(from, to)),
    ]
}

fn apply(message: &mut [u8], damage: &[Damage]) {
    // The first word is the count of segments: damage to it mostly ends there.
    let words = message.len() / 8 - 1;
    for damage in damage {
        match damage {
            Damage::Flip(at, bits) => message[at.index(message.len())] ^= bits,
            Damage::Word(at, word) => {
                let at = 8 + at.index(words) * 8;
                message[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            Damage::Copy(from, to) => {
                let from = 8 + from.index(words) * 8;
                message.copy_within(from..from + 8, 8 + to.index(words) * 8);
            }
        }
    }
}

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
