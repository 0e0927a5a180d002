// SPDX-License-Identifier: Apache-2.0
//! Where chunks begin and end: the policy that makes images share them.
//!
//! FastCDC (2020) finds the cuts. Upstream PuzzleFS uses it too, with the same
//! average of 64 KiB, but chunks the concatenation of all files, so that its first
//! chunk of a file also holds the end of another one. Here:
//!
//! - A file of at least a quarter of the average has its chunks to itself. They depend
//!   on its content only, so it is shared wherever the same file (or part of it) is.
//! - Smaller files are put together in order of the walk, and a cut inside one moves
//!   to its end. So each lies in one chunk, and reading it decompresses one chunk.
//!   ([`crate::encode::batch`] puts them together otherwise, for profile small.)
//! - Cuts are half the average apart at least, and twice at most. One that would leave
//!   less than that half moves to the end of the file.
//!
//! Which chunks come out is a function of the tree alone.
//!
//! Why so: cuts in the range that FastCDC usually has, a quarter to four times the
//! average, do not make an image smaller, and a page that is read at random meets a larger
//! chunk. To put together more files, or to put them into another order (by name, by
//! type), makes one image smaller, and a layout of two related images larger: their walks
//! have more runs of files in common than any other order has.

use anyhow::{ensure, Result};
use fastcdc::v2020::{FastCDC, Normalization};

/// Chunk sizes, in bytes, and what is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    avg: usize,
    batches: bool,
}

impl Policy {
    /// Upstream's average chunk size.
    pub const DEFAULT_AVG: usize = 64 * 1024;

    /// Chunks of `avg` bytes on average: a power of two from 4 KiB to 4 MiB (the
    /// format allows no chunk of more than 16 MiB).
    pub fn new(avg: usize) -> Result<Self> {
        ensure!(
            avg.is_power_of_two() && (4 << 10..=4 << 20).contains(&avg),
            "the average chunk size must be a power of two from 4096 to 4194304, not {avg}"
        );
        let batches = false;
        Ok(Policy { avg, batches })
    }

    /// The same, but small files are put together as [`crate::encode::batch`] says, not in order of
    /// the walk.
    pub fn with_batches(self) -> Self {
        let batches = true;
        Policy { batches, ..self }
    }

    /// Whether small files are put together by [`crate::encode::batch`].
    pub fn has_batches(&self) -> bool {
        self.batches
    }

    /// Smallest size of a file that has chunks to itself.
    pub fn own(&self) -> usize {
        self.avg / 4
    }

    /// Smallest chunk, but for the only one of a file.
    fn min(&self) -> usize {
        self.avg / 2
    }

    /// Largest chunk that ends within a file.
    fn max(&self) -> usize {
        self.avg * 2
    }

    /// Bytes that [`Policy::cut`] wants to see: the largest chunk.
    pub fn window(&self) -> usize {
        self.max() + self.min()
    }

    /// Length of the first chunk of `data`, which holds at least [`Policy::window`]
    /// bytes, or else all that is left.
    pub fn cut(&self, data: &[u8]) -> usize {
        // All of it, if it is less than the minimum.
        let (min, max) = (self.min(), self.max());
        let fastcdc = FastCDC::with_level(data, min, self.avg, max, Normalization::Level3);
        let (_, cut) = fastcdc.cut(0, data.len());
        let rest = data.len() - cut;
        if data.len() < self.window() && rest < min {
            data.len()
        } else {
            cut
        }
    }
}

/// Small files that wait to be put into one chunk.
pub struct Pool {
    policy: Policy,
    data: Vec<u8>,
    /// Inode and end in `data` of each file.
    files: Vec<(u32, usize)>,
}

/// A chunk of whole small files: its bytes, and for each file its inode, offset and
/// length.
pub type Pooled = (Vec<u8>, Vec<(u32, usize, usize)>);

impl Pool {
    /// An empty pool.
    pub fn new(policy: Policy) -> Self {
        Pool {
            policy,
            data: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Adds the file `ino`, smaller than [`Policy::own`]. Then call [`Pool::next`]
    /// until it gives nothing.
    pub fn push(&mut self, ino: u32, content: &[u8]) {
        self.data.extend_from_slice(content);
        self.files.push((ino, self.data.len()));
    }

    /// The next chunk, once its end is certain; `last` when no file follows.
    pub fn next(&mut self, last: bool) -> Option<Pooled> {
        if self.data.is_empty() || (!last && self.data.len() < self.policy.window()) {
            return None;
        }
        let cut = self.policy.cut(&self.data);
        let count = self.files.partition_point(|&(_, end)| end < cut) + 1;
        let end = self.files[count - 1].1;
        let rest = self.data.split_off(end);
        let chunk = std::mem::replace(&mut self.data, rest);
        let mut start = 0;
        let files = self
            .files
            .drain(..count)
            .map(|(ino, end)| (ino, std::mem::replace(&mut start, end), end))
            .map(|(ino, start, end)| (ino, start, end - start))
            .collect();
        for (_, file_end) in &mut self.files {
            *file_end -= end;
        }
        Some((chunk, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not repeat (xorshift).
    fn noise(len: usize, mut seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            out.extend_from_slice(&seed.to_le_bytes());
        }
        out.truncate(len);
        out
    }

    fn cuts(policy: Policy, mut data: &[u8]) -> Vec<usize> {
        let mut sizes = Vec::new();
        while !data.is_empty() {
            let n = policy.cut(&data[..data.len().min(policy.window())]);
            sizes.push(n);
            data = &data[n..];
        }
        sizes
    }

    #[test]
    fn chunks_stay_within_the_limits() {
        let policy = Policy::new(Policy::DEFAULT_AVG).unwrap();
        // Lengths that leave any rest: the file's end decides about the last cut.
        let lengths = (0..60).map(|i| 1 + i * 7_321).chain([8 << 20]);
        for (len, seed) in lengths.zip(1..) {
            for data in [noise(len, seed), vec![0; len]] {
                let sizes = cuts(policy, &data);
                assert_eq!(sizes.iter().sum::<usize>(), len);
                assert!(sizes.iter().all(|&n| n <= policy.window()));
                assert!(sizes.len() == 1 || sizes.iter().all(|&n| n >= policy.min()));
            }
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let policy = Policy::new(Policy::DEFAULT_AVG).unwrap();
        let old = noise(8 << 20, 5);
        let mut new = old.clone();
        new.splice(1 << 20..1 << 20, *b"inserted");
        let (old, new) = (cuts(policy, &old), cuts(policy, &new));
        let common = old
            .iter()
            .rev()
            .zip(new.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            common * 10 > old.len() * 8,
            "{common} of {} chunks at the end are the same",
            old.len()
        );
    }

    #[test]
    fn small_files_lie_in_one_chunk_each() {
        let policy = Policy::new(Policy::DEFAULT_AVG).unwrap();
        let mut pool = Pool::new(policy);
        let files: Vec<Vec<u8>> = (1..400).map(|i| noise(i * 37, i as u64)).collect();
        let mut seen = Vec::new();
        let mut take = |pool: &mut Pool, last| {
            while let Some((chunk, members)) = pool.next(last) {
                assert!(chunk.len() <= policy.window());
                for (ino, offset, len) in members {
                    assert_eq!(chunk[offset..offset + len], files[ino as usize]);
                    seen.push(ino);
                }
            }
        };
        for (ino, content) in files.iter().enumerate() {
            pool.push(ino as u32, content);
            take(&mut pool, false);
        }
        take(&mut pool, true);
        assert_eq!(seen, (0..399).collect::<Vec<u32>>());
    }
}
