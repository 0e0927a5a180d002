// SPDX-License-Identifier: Apache-2.0
//! What a program reads of an image, in order: made while it runs, and used to put these chunks side by side.
//!
//! - this file: a profile, which says it by paths and bytes, so that it goes with the next version of an image;
//! - `text`: as a file;
//! - [`chunks`]: which chunks of an image it means, and the other way round;
//! - [`record`]: making one, by what is read of packs; `run`: the program that reads.

pub mod chunks;
pub mod record;
mod run;
mod text;

use std::collections::HashSet;
use std::ops::Range;

use puzzlefs_format::Digest;

use crate::base::error::{Error, Result};
use crate::chunks::list::MAX_CHUNKS;

/// Parts of files that a profile has, at most.
pub const MAX_PARTS: usize = 1 << 20;
/// Extents that are looked at to find chunks, at most: a profile is no reason to work for hours.
const MAX_WORK: usize = 1 << 26;

/// A part of a file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Path of the file in the image, with a slash in front.
    pub path: Vec<u8>,
    /// Its bytes.
    pub range: Range<u64>,
}

/// What was read, in order of the first read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The parts.
    pub parts: Vec<Part>,
}

/// A run of a file: its length in bytes, and its chunk if it is no hole.
pub type Run = (u64, Option<Digest>);

impl Profile {
    /// The chunks that it means, each once, in its order, as many as an image may list. `runs` gives all of a file by its
    /// path, if there is such a file.
    ///
    /// # Errors
    ///
    /// If that takes too much work, and what `runs` says.
    pub fn order(
        &self,
        mut runs: impl FnMut(&[u8]) -> Result<Option<Vec<Run>>>,
    ) -> Result<Vec<Digest>> {
        let (mut chunks, mut seen) = (Vec::new(), HashSet::new());
        let mut last: Option<(&[u8], Vec<Run>)> = None;
        let mut work = 0;
        for part in &self.parts {
            let file = match last.take().filter(|(path, _)| *path == part.path) {
                Some((_, file)) => file,
                None => runs(&part.path)?.unwrap_or_default(),
            };
            work += file.len() + 1;
            if work > MAX_WORK {
                return Err(Error::refused("the profile asks for too much work"));
            }
            let mut at = 0u64;
            for (len, chunk) in &file {
                let end = at.saturating_add(*len);
                let is_read = at.max(part.range.start) < end.min(part.range.end);
                if let Some(chunk) = chunk.filter(|_| is_read) {
                    if seen.insert(chunk) {
                        chunks.push(chunk);
                    }
                }
                at = end;
            }
            if chunks.len() >= MAX_CHUNKS {
                break;
            }
            last = Some((&part.path, file));
        }
        chunks.truncate(MAX_CHUNKS);
        Ok(chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::sha256;

    fn part(path: &str, range: Range<u64>) -> Part {
        let path = path.into();
        Part { path, range }
    }

    #[test]
    fn parts_mean_the_chunks_that_they_touch() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| sha256(&[text]));
        let file = [
            (10, Some(a)),
            (5, None),
            (10, Some(b)),
            (10, Some(c)),
            (10, Some(a)),
        ];
        let runs = |path: &[u8]| Ok((path == b"/file").then(|| file.to_vec()));
        for (parts, wanted) in [
            (vec![part("/file", 24..26)], vec![b, c]),
            (
                vec![
                    part("/file", 25..26),
                    part("/gone", 0..9),
                    part("/file", 0..26),
                ],
                vec![c, a, b],
            ),
            (vec![part("/file", 10..15), part("/file", 9..9)], vec![]),
            (
                vec![part("/file", 40..u64::MAX), part("/file", 0..1)],
                vec![a],
            ),
        ] {
            let profile = Profile { parts };
            assert_eq!(profile.order(runs).unwrap(), wanted, "{profile:?}");
        }
        // Nobody works for ever.
        let many = vec![part("/file", 0..1), part("/other", 0..1)];
        let parts = many.into_iter().cycle().take(5_000).collect();
        let large = |_: &[u8]| Ok(Some(vec![(1, None); 20_000]));
        assert!(Profile { parts }.order(large).is_err());
    }
}
