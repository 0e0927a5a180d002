// SPDX-License-Identifier: Apache-2.0

//! Writes a message anew in forms that the `capnp` crate reads but never writes:
//! every object in a segment of its choice behind a near, far or double-far
//! pointer, and structs shorter or longer than the schema has them.

const KIND_LIST: u64 = 1;
const KIND_FAR: u64 = 2;
const ELEMENTS_BYTE: u64 = 2;
const ELEMENTS_COMPOSITE: u64 = 7;

/// A word of two halves.
fn word(low: u64, high: u64) -> u64 {
    low | (high << 32)
}

/// A struct's size as the high half of its pointer.
fn size(data_words: usize, pointers: usize) -> u64 {
    (data_words | (pointers << 16)) as u64
}

/// An object of a message and all that it leads to.
enum Value {
    Null,
    Struct(Fields),
    Bytes(Vec<u8>),
    /// Elements of equal size.
    List(Vec<Fields>),
}

/// What a struct holds.
struct Fields {
    data: Vec<u64>,
    pointers: Vec<Value>,
}

/// Rewrites `message`, which has one segment, into up to `segments` segments. The
/// layout depends on `seed` alone.
pub fn relocate(message: &[u8], segments: usize, seed: u64) -> Vec<u8> {
    let words: Vec<u64> = message
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect();
    assert_eq!(words[0], ((words.len() as u64) - 1) << 32, "one segment");
    let root = read(&words[1..], 0);

    let mut writer = Writer {
        segments: vec![Vec::new(); segments.max(1)],
        seed,
    };
    writer.segments[0].push(0);
    writer.write(&root, 0, 0);
    writer.finish()
}

fn read(words: &[u64], at: usize) -> Value {
    let pointer = words[at];
    if pointer == 0 {
        return Value::Null;
    }
    let offset = (pointer as u32 as i32) >> 2;
    let target = (at as i64 + 1 + i64::from(offset)) as usize;
    let count = (pointer >> 35) as usize;
    if pointer & 3 != KIND_LIST {
        return Value::Struct(read_fields(words, target, pointer));
    }
    if (pointer >> 32) & 7 == ELEMENTS_BYTE {
        let bytes = words[target..].iter().flat_map(|word| word.to_le_bytes());
        return Value::Bytes(bytes.take(count).collect());
    }
    let tag = words[target];
    let elements = ((tag as u32) >> 2) as usize;
    let step = count.checked_div(elements).unwrap_or(0);
    let element = |i| read_fields(words, target + 1 + i * step, tag);
    Value::List((0..elements).map(element).collect())
}

fn read_fields(words: &[u64], at: usize, pointer: u64) -> Fields {
    let data_words = ((pointer >> 32) & 0xffff) as usize;
    let pointers = at + data_words..at + data_words + (pointer >> 48) as usize;
    Fields {
        data: words[at..at + data_words].to_vec(),
        pointers: pointers.map(|at| read(words, at)).collect(),
    }
}

impl Fields {
    /// Without the zeros and nulls at the ends, as an older schema may have it.
    fn smallest(&self) -> (usize, usize) {
        let is_set = |pointer: &Value| !matches!(pointer, Value::Null);
        (
            self.data
                .iter()
                .rposition(|word| *word != 0)
                .map_or(0, |last| last + 1),
            self.pointers
                .iter()
                .rposition(is_set)
                .map_or(0, |last| last + 1),
        )
    }
}

struct Writer {
    segments: Vec<Vec<u64>>,
    seed: u64,
}

impl Writer {
    /// A number below `n` (splitmix64).
    fn choose(&mut self, n: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn any_segment(&mut self) -> usize {
        self.choose(self.segments.len())
    }

    /// Takes `words` words at the end of `segment`.
    fn allocate(&mut self, segment: usize, words: usize) -> usize {
        let at = self.segments[segment].len();
        self.segments[segment].resize(at + words, 0);
        at
    }

    /// A struct size that holds `smallest`: that, or what the schema has, or more.
    fn size(&mut self, smallest: (usize, usize), fields: (usize, usize)) -> (usize, usize) {
        match self.choose(3) {
            0 => smallest,
            1 => fields,
            _ => (fields.0 + self.choose(3), fields.1 + self.choose(3)),
        }
    }

    /// Writes `value` somewhere, and a pointer to it at `at` in `segment`.
    fn write(&mut self, value: &Value, segment: usize, at: usize) {
        let target = if self.choose(2) == 0 {
            segment
        } else {
            self.any_segment()
        };
        match value {
            Value::Null => {}
            Value::Struct(fields) => {
                let own = (fields.data.len(), fields.pointers.len());
                let (data, pointers) = self.size(fields.smallest(), own);
                let start = self.allocate(target, data + pointers);
                self.point(segment, at, target, start, word(0, size(data, pointers)));
                self.fill(fields, target, start, data);
            }
            Value::Bytes(bytes) => {
                let start = self.allocate(target, bytes.len().div_ceil(8));
                for (i, word) in bytes.chunks(8).enumerate() {
                    let mut padded = [0; 8];
                    padded[..word.len()].copy_from_slice(word);
                    self.segments[target][start + i] = u64::from_le_bytes(padded);
                }
                let count = (bytes.len() as u64) << 3;
                let list = word(KIND_LIST, ELEMENTS_BYTE | count);
                self.point(segment, at, target, start, list);
            }
            Value::List(elements) => {
                let own = elements
                    .first()
                    .map_or((0, 0), |e| (e.data.len(), e.pointers.len()));
                let smallest = elements.iter().map(Fields::smallest);
                let smallest = smallest.fold((0, 1), |a, b| (a.0.max(b.0), a.1.max(b.1)));
                let (data, pointers) = self.size(smallest, own);
                let words = elements.len() * (data + pointers);
                let start = self.allocate(target, 1 + words);
                let count = (elements.len() as u64) << 2;
                self.segments[target][start] = word(count, size(data, pointers));
                let list = word(KIND_LIST, ELEMENTS_COMPOSITE | ((words as u64) << 3));
                self.point(segment, at, target, start, list);
                for (i, element) in elements.iter().enumerate() {
                    self.fill(element, target, start + 1 + i * (data + pointers), data);
                }
            }
        }
    }

    fn fill(&mut self, fields: &Fields, segment: usize, start: usize, data_words: usize) {
        for (i, word) in fields.data.iter().take(data_words).enumerate() {
            self.segments[segment][start + i] = *word;
        }
        for (i, pointer) in fields.pointers.iter().enumerate() {
            if !matches!(pointer, Value::Null) {
                self.write(pointer, segment, start + data_words + i);
            }
        }
    }

    /// Makes the word at `at` in `segment` a pointer to `start` in `target`.
    /// `what` is that pointer without its offset.
    fn point(&mut self, segment: usize, at: usize, target: usize, start: usize, what: u64) {
        let near = |at: usize| {
            let offset = start as i64 - at as i64 - 1;
            what | u64::from((offset as i32 as u32) << 2)
        };
        let far = |at: usize, segment: usize| word(KIND_FAR | ((at as u64) << 3), segment as u64);
        let is_near = segment == target && self.choose(2) == 0;
        self.segments[segment][at] = if is_near {
            near(at)
        } else if self.choose(2) == 0 {
            let pad = self.allocate(target, 1);
            self.segments[target][pad] = near(pad);
            far(pad, target)
        } else {
            let other = self.any_segment();
            let pad = self.allocate(other, 2);
            self.segments[other][pad] = far(start, target);
            self.segments[other][pad + 1] = what;
            far(pad, other) | 4
        };
    }

    fn finish(self) -> Vec<u8> {
        let count = self.segments.len() as u32 - 1;
        let mut message = count.to_le_bytes().to_vec();
        for segment in &self.segments {
            message.extend((segment.len() as u32).to_le_bytes());
        }
        message.resize(message.len().next_multiple_of(8), 0);
        let words = self.segments.iter().flatten();
        message.extend(words.flat_map(|word| word.to_le_bytes()));
        message
    }
}
