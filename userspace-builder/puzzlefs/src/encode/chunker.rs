// SPDX-License-Identifier: Apache-2.0
//! Where chunks begin and end: the policy that makes images share them.
//!
//! FastCDC (2020) finds the cuts. Upstream PuzzleFS uses it too, with the same
//! average of 64 KiB, but chunks the concatenation of all files, so that its first
//! chunk of a file also holds the end of another one. Here:
//!
//! - A file of at least a quarter of the average has its chunks to itself (with batches: of half the
//!   average, or of 128 KiB). They depend on its content only, so it is shared wherever the same file
//!   (or part of it) is.
//! - Smaller files are put together in order of the walk, and a cut inside one moves
//!   to its end. So each lies in one chunk, and reading it decompresses one chunk.
//!   ([`crate::encode::batch`] puts them together otherwise, for all profiles but fast.)
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

use std::collections::VecDeque;

use fastcdc::v2020::{FastCDC, Normalization};

use crate::base::error::{Error, Result};

/// Chunk sizes, in bytes, and what is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    avg: usize,
    batches: bool,
}

impl Policy {
    /// Files of this size have chunks to themselves, however large chunks are.
    const OWN_IN_BATCHES: usize = 128 * 1024;

    /// Upstream's average chunk size.
    pub const DEFAULT_AVG: usize = 64 * 1024;

    /// Largest average size, in bytes: the largest chunk has [`Policy::window`] bytes then, which is what the
    /// format allows.
    const MAX_AVG: usize = 512 * 1024;

    /// Chunks of `avg` bytes on average: a power of two from 4 KiB to [`Policy::MAX_AVG`].
    pub fn new(avg: usize) -> Result<Self> {
        if !avg.is_power_of_two() || !(4 << 10..=Self::MAX_AVG).contains(&avg) {
            return Err(Error::refused(format!(
                "the average chunk size must be a power of two from 4096 to {}, not {avg}",
                Self::MAX_AVG
            )));
        }
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
        match self.batches {
            true => (self.avg / 2).min(Self::OWN_IN_BATCHES),
            false => self.avg / 4,
        }
    }

    /// Bytes of the largest chunk of a batch, if no file in it has more. What a larger one saves in
    /// one image, it costs in the next.
    pub fn largest_batch(&self) -> usize {
        (self.own() * 4).min(2 * Self::OWN_IN_BATCHES)
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

/// Small files that wait to be put into one chunk. Their content is asked for when a cut depends on
/// it.
pub(crate) struct Pool {
    policy: Policy,
    /// Inode and length of each file.
    files: VecDeque<(u32, usize)>,
    /// Their lengths together.
    len: usize,
    /// The content of the first of them: `read` ones.
    data: Vec<u8>,
    read: usize,
}

/// A chunk of whole small files: its bytes, and for each file its inode, offset and
/// length.
pub(crate) type Pooled = (Vec<u8>, Vec<(u32, usize, usize)>);

impl Pool {
    /// An empty pool.
    pub fn new(policy: Policy) -> Self {
        Pool {
            policy,
            files: VecDeque::new(),
            len: 0,
            data: Vec::new(),
            read: 0,
        }
    }

    /// Adds the file `ino` of `len` bytes, fewer than [`Policy::own`].
    pub fn push(&mut self, ino: u32, len: usize) {
        self.files.push_back((ino, len));
        self.len += len;
    }

    /// The files that wait, with their lengths.
    pub fn files(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        self.files.iter().copied()
    }

    /// Whether the end of the next chunk is certain; `last` when no file follows.
    pub fn is_ready(&self, last: bool) -> bool {
        self.len > 0 && (last || self.len >= self.policy.window())
    }

    /// The next file whose content is needed to find the end of the next chunk.
    pub fn wants(&self) -> Option<u32> {
        let has_enough = self.data.len() >= self.policy.window();
        let next = self.files.get(self.read).filter(|_| !has_enough)?;
        Some(next.0)
    }

    /// The content of the file that is wanted.
    pub fn give(&mut self, content: &[u8]) {
        self.data.extend_from_slice(content);
        self.read += 1;
    }

    /// The next chunk, if it is ready and no more content is wanted.
    pub fn cut(&mut self) -> Pooled {
        let cut = self.policy.cut(&self.data);
        let (mut count, mut end) = (0, 0);
        while end < cut {
            end += self.files[count].1;
            count += 1;
        }
        let rest = self.data.split_off(end);
        let chunk = std::mem::replace(&mut self.data, rest);
        self.read -= count;
        (chunk, self.remove(count))
    }

    /// Takes out the first `count` files: they are known to make the next chunk.
    pub fn take(&mut self, count: usize) -> Vec<(u32, usize, usize)> {
        let read = self.files().take(count.min(self.read));
        let read: usize = read.map(|(_, len)| len).sum();
        self.data.drain(..read);
        self.read -= count.min(self.read);
        self.remove(count)
    }

    fn remove(&mut self, count: usize) -> Vec<(u32, usize, usize)> {
        let mut end = 0;
        let files = self.files.drain(..count);
        let files = files.map(|(ino, len)| {
            end += len;
            (ino, end - len, len)
        });
        let files = files.collect();
        self.len -= end;
        files
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
    fn the_largest_chunk_is_what_the_format_allows() {
        let largest = Policy::new(Policy::MAX_AVG).unwrap().window();
        assert_eq!(largest as u64, puzzlefs_format::limits::MAX_CHUNK_BYTES);
        assert!(Policy::new(2 * Policy::MAX_AVG).is_err());
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
            while pool.is_ready(last) {
                while let Some(ino) = pool.wants() {
                    pool.give(&files[ino as usize]);
                }
                let (chunk, members) = pool.cut();
                assert!(chunk.len() <= policy.window());
                for (ino, offset, len) in members {
                    assert_eq!(chunk[offset..offset + len], files[ino as usize]);
                    seen.push(ino);
                }
            }
        };
        for (ino, content) in files.iter().enumerate() {
            pool.push(ino as u32, content.len());
            take(&mut pool, false);
        }
        take(&mut pool, true);
        assert_eq!(seen, (0..399).collect::<Vec<u32>>());
    }
}
