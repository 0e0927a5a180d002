// SPDX-License-Identifier: Apache-2.0
//! Writing one Cap'n Proto segment from its first word to its last, holding none of it
//! in memory (capnproto.org/encoding.html). The `capnp` crate builds a message in
//! memory: for a million files 190 MB, more than all the rest of a build takes.

use std::io::{self, Write};

/// What a list pointer says of the elements.
#[derive(Clone, Copy)]
enum Elements {
    Bytes = 2,
    /// Structs, after a tag word.
    Composite = 7,
}

/// Sizes of a struct, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Words of data.
    pub data: u16,
    /// Pointers.
    pub pointers: u16,
}

impl Layout {
    /// The high half of a pointer to such a struct.
    fn sizes(self) -> u64 {
        (u64::from(self.data) << 32) | (u64::from(self.pointers) << 48)
    }

    /// Words of a struct.
    pub const fn words(self) -> u64 {
        self.data as u64 + self.pointers as u64
    }

    /// Words of a list of `count` structs, its tag among them; an empty one is a null
    /// pointer.
    pub const fn list(self, count: usize) -> u64 {
        match count {
            0 => 0,
            _ => 1 + count as u64 * self.words(),
        }
    }
}

/// Words that a byte string takes.
pub const fn bytes(len: usize) -> u64 {
    (len as u64).div_ceil(8)
}

/// A segment that is being written.
pub struct Segment<W> {
    out: W,
    at: u64,
}

impl<W: Write> Segment<W> {
    /// Begins a message of one segment of `words` words.
    pub fn begin(mut out: W, words: u64) -> io::Result<Self> {
        let size = u32::try_from(words).map_err(io::Error::other)?;
        out.write_all(&0u32.to_le_bytes())?; // One segment.
        out.write_all(&size.to_le_bytes())?;
        Ok(Segment { out, at: 0 })
    }

    /// Index of the next word.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Writes a word of data.
    pub fn word(&mut self, word: u64) -> io::Result<()> {
        self.at += 1;
        self.out.write_all(&word.to_le_bytes())
    }

    /// Writes a byte string, padded to words.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += self::bytes(bytes.len());
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(8) - bytes.len();
        self.out.write_all(&[0; 8][..padding])
    }

    /// Writes a pointer to nothing: an empty list or byte string, a struct of defaults.
    pub fn null(&mut self) -> io::Result<()> {
        self.word(0)
    }

    /// Writes a pointer to a struct at `target`.
    pub fn pointer(&mut self, target: u64, layout: Layout) -> io::Result<()> {
        let offset = self.offset(target)?;
        self.word(offset | layout.sizes())
    }

    /// Writes a pointer to a list of `count` structs whose tag is at `target`.
    pub fn list_pointer(&mut self, target: u64, layout: Layout, count: usize) -> io::Result<()> {
        match count {
            0 => self.null(),
            _ => self.elements(target, Elements::Composite, layout.list(count) - 1),
        }
    }

    /// Writes a pointer to a byte string at `target`.
    pub fn bytes_pointer(&mut self, target: u64, len: usize) -> io::Result<()> {
        match len {
            0 => self.null(),
            _ => self.elements(target, Elements::Bytes, len as u64),
        }
    }

    /// Writes the tag of a list of `count` structs, if it has any.
    pub fn tag(&mut self, layout: Layout, count: usize) -> io::Result<()> {
        let count = u32::try_from(count).map_err(io::Error::other)?;
        match count {
            0 => Ok(()),
            // Like a struct pointer, with the count in place of the offset.
            _ => self.word((u64::from(count) << 2) | layout.sizes()),
        }
    }

    fn elements(&mut self, target: u64, elements: Elements, count: u64) -> io::Result<()> {
        const LIST: u64 = 1;
        if count >= 1 << 29 {
            return Err(io::Error::other("a list of 2^29 words or bytes"));
        }
        let offset = self.offset(target)?;
        self.word(offset | LIST | ((elements as u64) << 32) | (count << 35))
    }

    /// The low half of a pointer at the present word: the distance from its end to
    /// `target` in words, signed, in 30 bits.
    fn offset(&self, target: u64) -> io::Result<u64> {
        let next = i64::try_from(self.at + 1).map_err(io::Error::other)?;
        let distance = i64::try_from(target).map_err(io::Error::other)? - next;
        if !(-(1 << 29)..1 << 29).contains(&distance) {
            return Err(io::Error::other("a pointer over 4 GiB"));
        }
        let [a, b, c, d, ..] = (distance << 2).to_le_bytes();
        Ok(u32::from_le_bytes([a, b, c, d]).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, after capnproto.org/encoding.html.
    #[test]
    fn words() {
        let mut out = Vec::new();
        let layout = Layout {
            data: 1,
            pointers: 1,
        };
        let mut segment = Segment::begin(&mut out, 9).unwrap();
        segment.list_pointer(1, layout, 1).unwrap();
        segment.tag(layout, 1).unwrap();
        segment.word(42).unwrap();
        segment.bytes_pointer(6, 9).unwrap();
        segment.pointer(2, layout).unwrap(); // Back by three words.
        segment.null().unwrap();
        segment.bytes(b"nine byte").unwrap();
        segment.bytes_pointer(6, 0).unwrap();
        assert_eq!(segment.at(), 9);
        let words: Vec<u64> = out
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let expected = [
            9 << 32,                          // One segment of nine words.
            (2 << 35) | (7 << 32) | 1,        // List, 2 words of structs after the tag.
            (1 << 48) | (1 << 32) | (1 << 2), // Tag: one struct of 1 + 1 words.
            42,
            (9 << 35) | (2 << 32) | (2 << 2) | 1, // List of 9 bytes, two words on.
            (1 << 48) | (1 << 32) | 0xffff_fff4,  // Struct at -3.
            0,
            u64::from_le_bytes(*b"nine byt"),
            u64::from(b'e'),
            0,
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut segment = Segment::begin(io::sink(), 1).unwrap();
        segment.bytes_pointer(1, 1 << 29).unwrap_err();
        segment
            .pointer(
                1 << 30,
                Layout {
                    data: 1,
                    pointers: 0,
                },
            )
            .unwrap_err();
        assert!(Segment::begin(io::sink(), 1 << 32).is_err());
    }
}
