// SPDX-License-Identifier: Apache-2.0
//! Which small files are put into one chunk, for images that share as much as they can.
//!
//! A large chunk compresses well, but all of it is stored again if another image has one file
//! more in it. In order of the walk, what a package adds lies all over the tree: one file in each of
//! many chunks. So
//!
//! - What belongs to a package is put together: files are ordered by the first name on their path that is
//!   not one of [`SHELVES`], without its suffix, and then as the walk has them. `usr/bin/git`,
//!   `usr/share/doc/git/copyright` and `var/lib/dpkg/info/git.list` are neighbours. What lies where
//!   packages have nothing in common is as the walk has it.
//! - Where a chunk begins depends on paths only. Files that are too many for a chunk are cut between the
//!   two whose directories have the least in common, and both parts in turn; in a directory, before the file
//!   whose path has the highest digest. So a file that changes changes its chunk, and one more
//!   changes the chunk that it is in, or cuts that in two.
//! - Files that do not get smaller, as man pages and change logs do not after gzip, are
//!   apart, in small chunks. A larger one saves nothing, and is stored again as a whole.
//!
//! Times say nothing here: an image that is built reproducibly has a single one, and what is unpacked
//! has that of the unpacking. Nor does what a file holds, so that the next version of it leaves all other
//! chunks as they are. What a chunk consists of is a function of the names in the tree and of the
//! files' sizes.
//!
//! Two series of ten trees, five Debians with an application each and five versions of Django, and
//! four such Debians with three versions each of two sets of 20,000 to 50,000 small files, take (all chunks
//! by zstd at level 6, in MB, files of less than 128 KiB being small):
//!
//! | small files | first | second |
//! | --- | ---: | ---: |
//! | by the hour of their mtime, chunks of 512 KiB | 176.4 | 319.9 |
//! | the same where all times are one | 190.7 | 330.9 |
//! | as here, chunks of 512 KiB | 181.2 | 320.0 |
//! | as here: of 256 KiB | 178.3 | 311.6 |
//! | as here, chunks of 128 KiB | 178.4 | 312.9 |
//! | only those that no earlier image has | 168.9 | 270.8 |
//!
//! The last row is what no grouping can reach. What helps the one and harms the other: names that many
//! directories have, such as `manifest.json`, side by side (179.5 and 300.2).

use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::base::digest::sha256;
use crate::encode::chunker::Policy;

/// Directories in which each package has an entry of its own. So is each language in `locale` and `man`.
const SHELVES: [&str; 16] = [
    "bin",
    "doc",
    "dpkg",
    "etc",
    "info",
    "lib",
    "LC_MESSAGES",
    "lintian",
    "local",
    "locale",
    "man",
    "overrides",
    "sbin",
    "share",
    "usr",
    "var",
];

/// A small file, by what decides where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// Its number.
    pub ino: u32,
    /// Bytes.
    pub len: usize,
    /// Whether compression makes it smaller.
    pub compressible: bool,
}

/// Puts `files` together, which lie at `path` each: the numbers of the files of each chunk, under the
/// lowest of them.
pub fn group(
    policy: Policy,
    files: Vec<Small>,
    path: impl Fn(u32) -> PathBuf,
) -> HashMap<u32, Vec<u32>> {
    let (large, small): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.compressible);
    let largest = policy.largest_batch();
    let chunks = [(large, largest), (small, largest / 16)];
    let chunks = chunks.map(|(files, max)| Batches::new(files, &path).chunks(max / 16, max));
    let lowest = |chunk: Vec<u32>| Some((*chunk.iter().min()?, chunk));
    chunks.into_iter().flatten().filter_map(lowest).collect()
}

/// What a file belongs to, as far as its path tells.
fn package(path: &Path) -> Vec<u8> {
    let mut names = path.components().map(Component::as_os_str).peekable();
    let (mut name, mut is_language) = (names.next(), false);
    while let Some(shelf) = name.filter(|name| is_language || SHELVES.iter().any(|s| name == s)) {
        if names.peek().is_none() {
            break;
        }
        is_language = !is_language && (shelf == "locale" || shelf == "man");
        name = names.next();
    }
    let name = name.unwrap_or_default().as_bytes();
    let ends = |byte: &u8| b".:_".contains(byte);
    let len = name
        .iter()
        .skip(1)
        .position(ends)
        .map_or(name.len(), |at| at + 1);
    name[..len].to_ascii_lowercase()
}

/// How good it is to begin a chunk with the file `path` after the file `before`; any two of these
/// differ.
fn rank(before: &Path, path: &Path) -> (u32, u64) {
    let dirs = [before, path].map(|path| path.parent().unwrap_or(Path::new("")));
    let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = *sha256(&[path.as_os_str().as_bytes()]).as_bytes();
    let digest = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
    if dirs[0] == dirs[1] {
        return (0, digest);
    }
    let common = dirs[0].components().zip(dirs[1].components());
    let common = common.take_while(|(a, b)| a == b).count();
    (
        u32::MAX - u32::try_from(common).unwrap_or(u32::MAX - 1),
        digest,
    )
}

/// Files in the order in which they are put together.
struct Batches {
    files: Vec<Small>,
    /// Where each file begins if all are one after another, and where the last one ends.
    starts: Vec<u64>,
    ranks: Vec<(u32, u64)>,
    /// A tree over the ranks: the highest of nodes `2 * i` and `2 * i + 1` is that of node `i`. The second
    /// half are the files.
    highest: Vec<usize>,
}

impl Batches {
    fn new(files: Vec<Small>, path: impl Fn(u32) -> PathBuf) -> Self {
        let keyed = files
            .into_iter()
            .map(|file| (package(&path(file.ino)), file));
        let mut keyed: Vec<(Vec<u8>, Small)> = keyed.collect();
        keyed.sort_unstable_by(|(a, x), (b, y)| (a, x.ino).cmp(&(b, y.ino)));
        let files: Vec<Small> = keyed.into_iter().map(|(_, file)| file).collect();
        let mut starts = vec![0];
        starts.extend(files.iter().scan(0, |end, file| {
            *end += file.len as u64;
            Some(*end)
        }));
        let mut before = PathBuf::new();
        let ranks = files.iter().map(|file| {
            let path = path(file.ino);
            let rank = rank(&before, &path);
            before = path;
            rank
        });
        let ranks: Vec<_> = ranks.collect();
        let mut highest: Vec<usize> = (0..files.len()).chain(0..files.len()).collect();
        for node in (1..files.len()).rev() {
            let (a, b) = (highest[2 * node], highest[2 * node + 1]);
            highest[node] = if ranks[a] > ranks[b] { a } else { b };
        }
        Batches {
            files,
            starts,
            ranks,
            highest,
        }
    }

    /// Chunks of `max` bytes at most, and of `min` at least where that can be.
    fn chunks(&self, min: usize, max: usize) -> Vec<Vec<u32>> {
        let mut chunks = Vec::new();
        // What is still to be cut, the next last: files may be too many for recursion.
        let mut ranges: Vec<_> = std::iter::once(0..self.files.len()).collect();
        while let Some(range) = ranges.pop() {
            let len = self.starts[range.end] - self.starts[range.start];
            if len > max as u64 && range.len() > 1 {
                let cut = self.cut(&range, min as u64);
                ranges.extend([cut..range.end, range.start..cut]);
            } else {
                chunks.push(self.files[range].iter().map(|file| file.ino).collect());
            }
        }
        chunks
    }

    /// The best place to cut several files: the one that the second part begins with.
    fn cut(&self, range: &Range<usize>, min: u64) -> usize {
        let (from, to) = (self.starts[range.start], self.starts[range.end]);
        // Where `len` bytes or more are before.
        let behind = |len: u64| self.starts.partition_point(|start| *start < from + len);
        let first = behind(min).max(range.start + 1);
        let last = match (to - from).checked_sub(min) {
            // The last file that begins there or before, if none begins just there.
            Some(len) => behind(len + 1) - 1,
            None => range.start,
        };
        if first <= last {
            return self.highest(first..last.min(range.end - 1) + 1);
        }
        let middle = behind((to - from) / 2);
        let [a, b] =
            [middle.saturating_sub(1), middle].map(|at| at.clamp(range.start + 1, range.end - 1));
        let room = |at: usize| (self.starts[at] - from).min(to - self.starts[at]);
        if room(a) > room(b) {
            a
        } else {
            b
        }
    }

    /// The file of the highest rank in a range that is not empty.
    fn highest(&self, range: Range<usize>) -> usize {
        let count = self.files.len();
        let (mut from, mut to) = (range.start + count, range.end + count);
        let mut found = range.start;
        while from < to {
            for node in [
                (from % 2 == 1).then_some(from),
                (to % 2 == 1).then(|| to - 1),
            ] {
                if let Some(at) = node.map(|node| self.highest[node]) {
                    found = if self.ranks[at] > self.ranks[found] {
                        at
                    } else {
                        found
                    };
                }
            }
            (from, to) = (from.div_ceil(2), to / 2);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Files of some packages, side by side in directories that all have, as on a real system.
    fn packages(numbers: impl IntoIterator<Item = usize>) -> Vec<(String, usize)> {
        let dirs = "usr/bin usr/share/doc usr/lib usr/share/man/man1 usr/share/locale/de var/lib/dpkg/info";
        let mut files = Vec::new();
        for package in numbers {
            for (i, dir) in (0..40).zip(dirs.split(' ').cycle()) {
                let len = 500 + (package * 7_919 + i * 104_729) % 9_000;
                files.push((format!("{dir}/p{package}.{i}"), len));
            }
        }
        files
    }

    /// The chunks of a tree, by names.
    fn chunks(mut tree: Vec<(String, usize)>) -> HashSet<Vec<String>> {
        tree.sort();
        let small = |(ino, (name, len)): (u32, &(String, usize))| Small {
            ino,
            len: *len,
            compressible: !name.contains("/man/"),
        };
        let files = (0..).zip(&tree).map(small).collect();
        let name = |ino| tree[ino as usize].0.clone();
        let groups = group(Policy::new(64 << 10).unwrap(), files, |ino| {
            name(ino).into()
        });
        assert!(groups
            .iter()
            .all(|(lowest, chunk)| chunk.iter().min() == Some(lowest)));
        let names = |chunk: Vec<u32>| chunk.into_iter().map(name).collect();
        groups.into_values().map(names).collect()
    }

    #[test]
    fn each_file_is_in_one_chunk_of_its_kind() {
        let tree = packages(0..50);
        let sizes: HashMap<_, _> = tree.iter().cloned().collect();
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

    #[test]
    fn packages_by_paths() {
        for (path, name) in [
            ("usr/bin/git", "git"),
            ("usr/share/doc/Git/copyright", "git"),
            ("var/lib/dpkg/info/git.list", "git"),
            ("var/lib/dpkg/info/libc6:amd64.md5sums", "libc6"),
            ("usr/share/locale/de/LC_MESSAGES/git.mo", "git"),
            ("usr/share/man/man1/git.1.gz", "git"),
            ("usr/lib/python3.13/json/tool.py", "python3"),
            ("opt/app/lib/a", "opt"),
            // Nothing else is left.
            ("usr/lib/share", "share"),
            ("usr/share/locale/locale.alias", "locale"),
            ("etc/.pwd.lock", ".pwd"),
            ("etc/.", "etc"),
            ("", ""),
        ] {
            assert_eq!(package(path.as_ref()), name.as_bytes(), "{path}");
        }
    }

    /// Wherever its files lie in the tree.
    #[test]
    fn a_package_more_changes_few_chunks() {
        let old = chunks(packages(0..50));
        for package in 50..60 {
            let new = chunks(packages((0..50).chain([package])));
            let shared = new.intersection(&old).count();
            let changed = old.len() - shared;
            assert!(changed <= 5, "{changed} of {} chunks are lost", old.len());
            let bytes = packages([package])
                .iter()
                .map(|(_, len)| len)
                .sum::<usize>();
            let more = new.len() - old.len();
            assert!(
                more <= 2 * bytes / (32 << 10) + 6,
                "{more} chunks for {bytes} bytes"
            );
        }
    }

    /// Files of packages, and of one large directory.
    fn trees() -> [Vec<(String, usize)>; 2] {
        let file = |i: usize| (format!("opt/app/{i}"), 500 + i * 104_729 % 9_000);
        [packages(0..50), (0..2_000).map(file).collect()]
    }

    #[test]
    fn a_file_more_changes_one_chunk_as_a_rule() {
        for tree in trees() {
            let old = chunks(tree.clone());
            let mut lost = 0;
            for at in (0..2_000).step_by(25) {
                let mut tree = tree.clone();
                tree.push((format!("{}-more", tree[at].0), 700));
                lost += old.difference(&chunks(tree)).count();
            }
            // Some at once, where it makes enough of what was too little for a chunk.
            assert!(lost <= 104, "{lost} lost in 80 times");
        }
    }

    /// The next version of a package, whose files have other sizes.
    #[test]
    fn a_file_that_grows_moves_no_other_as_a_rule() {
        for tree in trees() {
            let old = chunks(tree.clone());
            let mut lost = 0;
            for at in (0..2_000).step_by(50) {
                let mut tree = tree.clone();
                tree[at].1 += 100;
                lost += old.difference(&chunks(tree)).count();
            }
            assert!(lost <= 3, "{lost} lost in 40 times");
        }
    }

    /// What lies in one directory is not put together with others where that can be.
    #[test]
    fn directories_are_kept_together() {
        let dir = |number: usize| {
            let file = move |i| (format!("opt/app/d{number}/{i}"), 2_000);
            (0..20).map(file)
        };
        let chunks = chunks((0..30).flat_map(dir).collect());
        assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), 600);
        for chunk in chunks {
            let dirs: HashSet<_> = chunk
                .iter()
                .map(|name| name.rsplit_once('/').unwrap().0)
                .collect();
            assert_eq!(chunk.len(), 20 * dirs.len());
        }
    }

    #[test]
    fn any_number_of_files_anywhere() {
        assert!(chunks(Vec::new()).is_empty());
        let file = |i| (format!("usr/{i}"), 60_000);
        assert_eq!(chunks((0..4).map(file).collect()).len(), 4);
        let same = (0..100_000).map(|i| (format!("usr/{i}"), 100)).collect();
        assert!(chunks(same).len() >= 100_000 * 100 / (64 << 10));
        // Each cut takes off as little as it may.
        let deep = |i: usize| (format!("{}{i}", "d/".repeat(i / 50)), 100);
        assert!(chunks((0..20_000).map(deep).collect()).len() >= 20_000 * 100 / (64 << 10));
    }
}
