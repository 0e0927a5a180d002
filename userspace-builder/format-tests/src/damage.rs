// SPDX-License-Identifier: Apache-2.0

//! Damage to a message, to see what readers make of it.

use proptest::prelude::*;
use proptest::sample::Index;

/// What to do with a message.
#[derive(Clone, Debug)]
pub enum Damage {
    /// Flip these bits of a byte.
    Flip(Index, u8),
    /// Overwrite a word with an interesting one.
    Word(Index, u64),
    /// Copy one word over another: pointers that alias or lead astray.
    Copy(Index, Index),
}

/// Any of it.
pub fn damage() -> impl Strategy<Value = Damage> {
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

/// Does it.
pub fn apply(message: &mut [u8], damage: &[Damage]) {
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
