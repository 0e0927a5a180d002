// SPDX-License-Identifier: Apache-2.0
//! Which small files are put into one chunk, for images that share as much as they can.
//!
//! A large chunk compresses well, but all of it is stored again if another image has one file
//! more in it. In order of the walk, as [`crate::encode::chunker::Pool`] has them, what a package adds
//! lies all over the tree: the chunks of ten related Debians (docs/ten-images.md) take 217 MB if
//! they have 512 KiB, and 191 MB if they have 64 KiB, by zstd at level 9. As here they take 174:
//!
//! - What came together stays together. Files are ordered by batches, and within one as the walk
//!   has them. A batch ends where no file was changed for an hour. Packages that are built
//!   reproducibly have one time for most files, that of their release, and are batches therefore;
//!   another is all that was written when the image was made. (In order of the walk: 187 MB. If
//!   each second is a batch: 178, for an installation takes another number of them each
//!   time. By the package manager's list of whose a file is: 173.)
//! - Where a chunk begins depends on the path of the file there, and on whether a batch begins. Files
//!   that are too many for a chunk are cut at the best place of all, and both parts in turn. So
//!   one file more changes the chunk that it is in, or cuts that in two. (By FastCDC, at ends of
//!   files: 184 MB.)
//! - Files that do not get smaller, as man pages and change logs do not after gzip, are
//!   apart, in chunks of 32 KiB at most. A larger one saves nothing, and is stored again as a
//!   whole. (Among the others: 180 MB.)
//!
//! What helps no more: to order the files of a batch by suffix (176), or all files by suffix and
//! then by batch (184); a pause of a day (175) or of ten seconds (174). Chunks of 256 KiB at most take
//! 173, but make one image by itself 2% larger; of 1 MiB, 179, and 2% smaller.
//!
//! A tree whose times are all the same is one batch: the walk, cut by paths. What a chunk consists of
//! is a function of the tree, its times among it.

use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::digest::sha256;
use crate::encode::chunker::Policy;

/// Seconds between two changes of files that belong to different batches.
const PAUSE: i64 = 3600;

/// A small file, by what decides where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// Its number.
    pub ino: u32,
    /// Bytes.
    pub len: usize,
    /// When it was last changed, in seconds.
    pub mtime: i64,
    /// Whether compression makes it smaller.
    pub compressible: bool,
    /// Of the places where a chunk might begin, those with files of the highest rank are taken.
    pub rank: u64,
}

/// The rank of the file `path`: any number that is the same in each tree.
pub fn rank(path: &Path) -> u64 {
    let digest = sha256(&[path.as_os_str().as_bytes()]);
    let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = *digest.as_bytes();
    u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
}

/// Puts `files` together: the numbers of the files of each chunk, under the lowest of them.
pub fn group(policy: Policy, files: Vec<Small>) -> HashMap<u32, Vec<u32>> {
    let (large, small): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.compressible);
    let largest = policy.own() * 4;
    let chunks = [(large, largest), (small, largest / 16)];
    let chunks = chunks.map(|(files, max)| Batches::new(files).chunks(max / 16, max));
    let lowest = |chunk: Vec<u32>| Some((*chunk.iter().min()?, chunk));
    chunks.into_iter().flatten().filter_map(lowest).collect()
}

/// Files in the order of their batches.
struct Batches {
    files: Vec<Small>,
    /// The batch of each file.
    batch: Vec<u32>,
    /// Where each file begins if all are one after another, and where the last one ends.
    starts: Vec<u64>,
}

impl Batches {
    fn new(mut files: Vec<Small>) -> Self {
        files.sort_unstable_by_key(|file| (file.mtime, file.ino));
        let (mut number, mut before) = (0, i64::MIN);
        let mut files: Vec<(u32, Small)> = files
            .into_iter()
            .map(|file| {
                number += u32::from(file.mtime.saturating_sub(before) > PAUSE);
                before = file.mtime;
                (number, file)
            })
            .collect();
        files.sort_unstable_by_key(|(number, file)| (*number, file.ino));
        let mut starts = vec![0];
        starts.extend(files.iter().scan(0, |end, (_, file)| {
            *end += file.len as u64;
            Some(*end)
        }));
        let (batch, files) = files.into_iter().unzip();
        Batches {
            files,
            batch,
            starts,
        }
    }

    /// Chunks of `max` bytes at most, and of `min` at least where that can be.
    fn chunks(&self, min: usize, max: usize) -> Vec<Vec<u32>> {
        let mut chunks = Vec::new();
        // What is still to be cut, the next last: files may be too many for recursion.
        let mut ranges: Vec<_> = std::iter::once(0..self.files.len()).collect();
        while let Some(range) = ranges.pop() {
            let len = self.starts[range.end] - self.starts[range.start];
            match self.cut(&range, min as u64) {
                Some(cut) if len > max as u64 => ranges.extend([cut..range.end, range.start..cut]),
                _ => chunks.push(self.files[range].iter().map(|file| file.ino).collect()),
            }
        }
        chunks
    }

    /// The best place to cut: the file that the second part begins with.
    fn cut(&self, range: &Range<usize>, min: u64) -> Option<usize> {
        let (from, to) = (self.starts[range.start], self.starts[range.end]);
        (range.start + 1..range.end).max_by_key(|&at| {
            let room = (self.starts[at] - from).min(to - self.starts[at]);
            let between = self.batch[at - 1] != self.batch[at];
            match room < min {
                true => (false, false, room),
                false => (true, between, self.files[at].rank),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const RELEASE: i64 = 1_700_000_000;

    /// Files of some packages, side by side in directories that all have, as on a real system.
    fn packages(numbers: impl IntoIterator<Item = i64>) -> Vec<(String, i64, usize)> {
        let dirs = "bin doc lib man locale/de locale/fr sbin zsh";
        let mut files = Vec::new();
        for package in numbers {
            // In no order of the packages' names.
            let time = RELEASE + (package * 37 % 101) * 86_400;
            for (i, dir) in (0..40).zip(dirs.split(' ').cycle()) {
                let len = 500 + (package * 7_919 + i * 104_729) as usize % 9_000;
                files.push((format!("usr/{dir}/p{package}-{i}"), time, len));
            }
        }
        files
    }

    /// The chunks of a tree, by names.
    fn chunks(mut tree: Vec<(String, i64, usize)>) -> HashSet<Vec<String>> {
        tree.sort();
        let small = |(ino, (name, mtime, len)): (u32, &(String, i64, usize))| Small {
            ino,
            len: *len,
            mtime: *mtime,
            compressible: !name.contains("/man/"),
            rank: rank(name.as_ref()),
        };
        let files = (0..).zip(&tree).map(small).collect();
        let groups = group(Policy::new(64 << 10).unwrap(), files);
        assert!(groups
            .iter()
            .all(|(lowest, chunk)| chunk.iter().min() == Some(lowest)));
        let name = |ino| tree[ino as usize].0.clone();
        let names = |chunk: Vec<u32>| chunk.into_iter().map(name).collect();
        groups.into_values().map(names).collect()
    }

    #[test]
    fn each_file_is_in_one_chunk_of_its_kind() {
        let tree = packages(0..50);
        let sizes: HashMap<_, _> = tree
            .iter()
            .map(|(name, _, len)| (name.clone(), *len))
            .collect();
        let mut seen = Vec::new();
        for chunk in chunks(tree) {
            let kinds = chunk.iter().map(|name| name.contains("/man/"));
            let kinds: HashSet<bool> = kinds.collect();
            assert_eq!(kinds.len(), 1);
            let max = if kinds.contains(&true) {
                4 << 10
            } else {
                64 << 10
            };
            let len: usize = chunk.iter().map(|name| sizes[name]).sum();
            assert!(len <= max || chunk.len() == 1, "{len} bytes");
            assert!(len >= max / 16);
            seen.extend(chunk);
        }
        assert_eq!(seen.len(), sizes.len());
        assert_eq!(seen.into_iter().collect::<HashSet<_>>().len(), sizes.len());
    }

    /// Wherever its files lie in the tree.
    #[test]
    fn a_package_more_changes_few_chunks() {
        let old = chunks(packages(0..50));
        for package in 50..60 {
            let new = chunks(packages((0..50).chain([package])));
            let shared = new.intersection(&old).count();
            let changed = old.len() - shared;
            assert!(changed <= 4, "{changed} of {} chunks are lost", old.len());
            let bytes = packages([package])
                .iter()
                .map(|(_, _, len)| len)
                .sum::<usize>();
            let more = new.len() - old.len();
            assert!(
                more <= 2 * bytes / (32 << 10) + 6,
                "{more} chunks for {bytes} bytes"
            );
        }
    }

    #[test]
    fn a_file_more_changes_one_chunk_as_a_rule() {
        let old = chunks(packages(0..50));
        let (mut tries, mut lost) = (0, 0);
        for (path, mtime, _) in packages([7, 30]) {
            let mut tree = packages(0..50);
            tree.push((format!("{path}-more"), mtime, 700));
            lost += old.difference(&chunks(tree)).count();
            tries += 1;
        }
        // Some at once, where it makes enough of what was too little for a chunk.
        assert!(lost * 10 <= tries * 13, "{lost} lost in {tries} times");
    }

    /// An installation takes some seconds, and each time others.
    #[test]
    fn a_batch_has_no_order_of_times() {
        let at = |time: fn(usize) -> i64| {
            let installed = packages(100..110).into_iter().enumerate();
            let installed = installed.map(|(i, (name, _, len))| (name, RELEASE * 2 + time(i), len));
            chunks(packages(0..20).into_iter().chain(installed).collect())
        };
        let together = at(|_| 0);
        assert_eq!(at(|i| i as i64 / 9), together);
        assert_eq!(at(|i| (i as i64 * 7_919) % 3_000), together);
        // Each of its own, they would be in the order of their times.
        assert_ne!(at(|i| -(i as i64) * (PAUSE + 1)), together);
    }

    #[test]
    fn any_time_and_any_number() {
        assert!(chunks(Vec::new()).is_empty());
        let times = [i64::MIN, -1, 0, i64::MAX];
        let file = |(i, time)| (format!("usr/{i}"), time, 60_000);
        assert_eq!(chunks((0..).zip(times).map(file).collect()).len(), 4);
        let same = (0..100_000).map(|i| (format!("usr/{i}"), 0, 100)).collect();
        assert!(chunks(same).len() >= 100_000 * 100 / (64 << 10));
    }
}
