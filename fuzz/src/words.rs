// SPDX-License-Identifier: Apache-2.0

//! Mutations that keep a Cap'n Proto message one: it has words, a frame that says how many, and
//! pointers that lead somewhere. Of plain bytes that are flipped hardly any get past the frame.

use libfuzzer_sys::fuzzer_mutate;

const WORD: usize = 8;

struct Mutation<'a> {
    data: &'a mut [u8],
    size: usize,
    seed: u64,
}

impl Mutation<'_> {
    /// A number below `n` (splitmix64).
    fn choose(&mut self, n: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    fn words(&self) -> usize {
        self.size / WORD
    }

    /// Any word but the first, which is the frame.
    fn any(&mut self) -> usize {
        let words = self.words();
        1 + self.choose(words - 1)
    }

    fn get(&self, at: usize) -> u64 {
        let word = self.data[at * WORD..][..WORD].try_into();
        u64::from_le_bytes(word.expect("8 bytes"))
    }

    fn set(&mut self, at: usize, word: u64) {
        self.data[at * WORD..][..WORD].copy_from_slice(&word.to_le_bytes());
    }

    /// A word becomes a pointer to another one, or a list's tag.
    fn point(&mut self) {
        let (at, to) = (self.any(), self.any());
        let offset = to as i64 - at as i64 - 1;
        let low = u64::from((offset as i32 as u32) << 2);
        let small = self.choose(8) as u64;
        let words = (self.words() - to) as u64;
        let high = match self.choose(6) {
            // A struct.
            0 | 1 => small | ((self.choose(4) as u64) << 16),
            // A list of structs, bytes.
            2 | 3 => {
                let some = self.choose(words as usize + 1) as u64;
                return self.set(at, low | 1 | ((7 | (some << 3)) << 32));
            }
            4 => return self.set(at, low | 1 | ((2 | (small << 5)) << 32)),
            // A far pointer within the first segments.
            _ => {
                let (is_double, segment) = (self.choose(2) as u64, self.choose(3) as u64);
                let landing = (to as u64 - 1) << 3;
                return self.set(at, landing | (is_double << 2) | 2 | (segment << 32));
            }
        };
        self.set(at, low | (high << 32));
    }

    /// A list gets another number of elements, its pointer another number of words.
    fn resize(&mut self) {
        let at = self.any();
        let word = self.get(at);
        let few = self.choose(9) as u64;
        let other = match self.choose(3) {
            0 => (word & !0xffff_fffc) | (few << 2),
            1 => (word & 0x0000_0007_ffff_ffff) | (few << 35),
            _ => word.wrapping_add(1 << (32 + 16 * self.choose(2))),
        };
        self.set(at, other);
    }

    /// A field gets a number that means something: kinds, limits, versions.
    fn number(&mut self) {
        const NUMBERS: [u64; 14] = [
            0,
            1,
            2,
            3,
            4,
            5,
            6,
            8,
            255,
            1 << 14,
            1 << 15,
            16 << 20,
            1 << 24,
            u64::MAX,
        ];
        let at = self.any();
        let number = NUMBERS[self.choose(NUMBERS.len())];
        let bits = [64, 32, 16, 16][self.choose(4)];
        let shift = self.choose(64 / bits) * bits;
        let mask = (u64::MAX >> (64 - bits)) << shift;
        let word = (self.get(at) & !mask) | ((number << shift) & mask);
        self.set(at, word);
    }

    /// Words are copied over others, or to the end.
    fn copy(&mut self, max: usize) {
        let (from, to) = (self.any(), self.any());
        let count = 1 + self.choose(8).min(self.words() - from.max(to) - 1);
        let to = if self.choose(2) == 0 && self.size + count * WORD <= max {
            self.size += count * WORD;
            self.words() - count
        } else {
            to
        };
        self.data
            .copy_within(from * WORD..(from + count) * WORD, to * WORD);
    }

    /// The frame says what is there.
    fn frame(&mut self) {
        let words = self.words();
        let one = ((words - 1) as u64) << 32;
        // Two segments mostly have a frame of two words, and the sizes of both.
        match self.get(0) & 0xffff_ffff {
            1 if words > 3 && self.choose(16) > 0 => {
                let first = 1 + self.choose(words - 3);
                let kept = (self.get(0) >> 32) as usize;
                let is_good = kept > 0 && kept < words - 2 && self.choose(8) > 0;
                let first = if is_good { kept } else { first };
                self.set(0, 1 | ((first as u64) << 32));
                self.set(1, (words - 2 - first) as u64);
            }
            _ => self.set(0, one),
        }
        if self.choose(64) == 0 && words > 3 {
            self.set(0, 1);
        }
    }
}

/// A custom mutator of libFuzzer for messages of Cap'n Proto.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let mut mutation = Mutation {
        data,
        size: size / WORD * WORD,
        seed: seed.into(),
    };
    if mutation.words() < 3 || mutation.choose(3) == 0 {
        let seed = mutation.seed;
        let size = fuzzer_mutate(mutation.data, size, max);
        // Half of them with a good frame.
        let mut mutation = Mutation {
            data: mutation.data,
            size: size / WORD * WORD,
            seed,
        };
        if mutation.words() > 2 && mutation.choose(2) == 0 {
            mutation.frame();
            return mutation.size;
        }
        return size;
    }
    for _ in 0..=mutation.choose(4) {
        match mutation.choose(4) {
            0 => mutation.point(),
            1 => mutation.resize(),
            2 => mutation.number(),
            _ => mutation.copy(max),
        }
    }
    mutation.frame();
    mutation.size
}
