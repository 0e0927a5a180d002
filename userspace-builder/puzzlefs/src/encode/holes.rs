// SPDX-License-Identifier: Apache-2.0
//! Which bytes of a file are a hole: a function of its content alone.
//!
//! A filesystem's own holes depend on how a file came to it: whether the program that copied it
//! skips zeros, whether space was reserved, and on ext4 and xfs whether such space is in the page cache.
//! So it is only asked for what need not be read ([`crate::tree::file`]), and the same rule serves a
//! stream that has no holes, as a tar archive.

use anyhow::Result;

/// A hole shorter than this is stored as zeros: it would cost a reader more extents
/// than it saves, and zeros compress to nothing.
pub const MIN: u64 = 64 << 10;
/// Holes begin and (but for the end of the file) end at a multiple of this, so that a
/// page never lies in a hole and in data.
pub const ALIGN: u64 = 4096;

static ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];

/// A part of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// So many zeros that are not stored.
    Hole(u64),
}

/// Tells holes from data in a file that comes piece by piece. However it is cut into pieces, the
/// parts come out the same but for the lengths of data.
#[derive(Default)]
pub struct Splitter {
    /// Bytes that have come.
    at: u64,
    /// So many of the last are zeros, of which it is not known what they are.
    zeros: u64,
}

impl Splitter {
    /// The next bytes of the file; `each` gets the parts that are certain.
    pub fn push(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<()> {
        let mut rest = bytes;
        // What is to be handed on in one piece: all of `data` is data.
        let mut data: &[u8] = &[];
        while !rest.is_empty() {
            let block = (ALIGN - self.at % ALIGN).min(rest.len() as u64) as usize;
            let (piece, next) = rest.split_at(block);
            if *piece == ZEROS[..block] {
                if !data.is_empty() {
                    each(Part::Data(data))?;
                    data = &[];
                }
                self.zeros += block as u64;
            } else {
                if self.zeros > 0 {
                    // Zeros in front of it that are in its own block are data.
                    self.flush(self.at - self.at % ALIGN, each)?;
                }
                let start = bytes.len() - rest.len() - data.len();
                data = &bytes[start..start + data.len() + block];
            }
            self.at += block as u64;
            rest = next;
        }
        match data {
            [] => Ok(()),
            data => each(Part::Data(data)),
        }
    }

    /// The next bytes of the file are so many zeros.
    pub fn skip(&mut self, zeros: u64) {
        self.at += zeros;
        self.zeros += zeros;
    }

    /// The file ends.
    pub fn finish(mut self, each: &mut Each<'_>) -> Result<()> {
        self.flush(self.at, each)
    }

    /// Decides about the zeros that have come last: a hole in them ends at `to`.
    fn flush(&mut self, to: u64, each: &mut Each<'_>) -> Result<()> {
        let start = self.at - self.zeros;
        let from = start.next_multiple_of(ALIGN);
        let hole = to.saturating_sub(from);
        if hole < MIN {
            zeros(self.zeros, each)?;
        } else {
            zeros(from - start, each)?;
            each(Part::Hole(hole))?;
            zeros(self.at - to, each)?;
        }
        self.zeros = 0;
        Ok(())
    }
}

/// Takes the parts of a file, one after another.
pub type Each<'a> = dyn FnMut(Part<'_>) -> Result<()> + 'a;

fn zeros(mut len: u64, each: &mut Each<'_>) -> Result<()> {
    while len > 0 {
        let part = len.min(ALIGN);
        each(Part::Data(&ZEROS[..part as usize]))?;
        len -= part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a file that comes in pieces of `step` bytes: lengths, holes marked.
    fn parts(content: &[u8], step: usize) -> Vec<(bool, u64)> {
        let mut splitter = Splitter::default();
        let (mut parts, mut read): (Vec<(bool, u64)>, Vec<u8>) = Default::default();
        let mut each = |part: Part<'_>| {
            let (is_hole, len) = match part {
                Part::Data(bytes) => {
                    read.extend_from_slice(bytes);
                    (false, bytes.len() as u64)
                }
                Part::Hole(len) => {
                    read.resize(read.len() + len as usize, 0);
                    (true, len)
                }
            };
            assert!(len > 0);
            match parts.last_mut() {
                Some((last, sum)) if *last == is_hole => *sum += len,
                _ => parts.push((is_hole, len)),
            }
            Ok(())
        };
        for piece in content.chunks(step) {
            // As if a filesystem had said that there is a hole.
            match piece.iter().all(|&byte| byte == 0) && piece.len() % 3 == 1 {
                true => splitter.skip(piece.len() as u64),
                false => splitter.push(piece, &mut each).unwrap(),
            }
        }
        splitter.finish(&mut each).unwrap();
        assert_eq!(read, content);
        parts
    }

    #[test]
    fn holes_are_aligned_runs_of_zeros() {
        const K: usize = 1 << 10;
        let data = |len| (true, len);
        let zeros = |len| (false, len);
        for (runs, expected) in [
            (&[][..], &[][..]),
            (&[zeros(64 * K)], &[(true, 65_536)]),
            (&[zeros(64 * K - 1)], &[(false, 65_535)]),
            (&[zeros(100 * K + 5)], &[(true, 102_405)]),
            // Aligned it is too short.
            (&[data(1), zeros(67 * K), data(1)], &[(false, 68_610)]),
            (
                &[data(1), zeros(68 * K - 1), data(1)],
                &[(false, 4_096), (true, 65_536), (false, 1)],
            ),
            (
                &[data(4 * K), zeros(64 * K - 1), data(1)],
                &[(false, 69_632)],
            ),
            (
                &[data(5_000), zeros(80 * K)],
                &[(false, 8_192), (true, 78_728)],
            ),
            // Of the second run 60 KiB are left.
            (
                &[
                    zeros(64 * K),
                    data(1),
                    zeros(64 * K),
                    data(4 * K),
                    zeros(200 * K),
                ],
                &[(true, 65_536), (false, 73_728), (true, 200_705)],
            ),
        ] {
            check(runs, expected);
        }
    }

    fn check(runs: &[(bool, usize)], expected: &[(bool, u64)]) {
        let runs = runs.iter().map(|(data, len)| vec![u8::from(*data); *len]);
        let content: Vec<u8> = runs.flatten().collect();
        for step in [1, 7, 4_095, 4_096, 4_097, 10_000, 65_536, 1 << 20] {
            assert_eq!(parts(&content, step), expected, "in pieces of {step}");
        }
    }
}
