// SPDX-License-Identifier: Apache-2.0
//! Which chunks the files of a tree became.
//!
//! A file is known by its device, inode number, size, mtime and ctime, as restic and rustic have it. No
//! program sets a ctime; still it says nothing
//!
//! - without a fraction of a second: that of a read-only filesystem is often its mtime, which
//!   reproducible images have in common, with their inode numbers; and where times are whole seconds,
//!   a second has room for a change after a build has read the file;
//! - within [`RECENT`] of the build, for the same reason: the kernel's clock goes in steps.
//!
//! Such files are read each time. What nothing shows is a write to memory that a program has mapped, on
//! tmpfs, and elsewhere until the kernel has written the page: `--force` reads all.
//!
//! Extended attributes are read each time. A ctime changes when one is set; but which ones a file shows,
//! and with which values, also depends on who asks (`trusted.*` takes a capability), on the mount
//! (`context=` of SELinux, the numbers of users in an ACL where mounts are mapped, `userxattr` of
//! overlayfs) and on the policy that is loaded, none of which changes a ctime. For a Debian that takes 20
//! ms, a hundredth of its first build.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use puzzlefs_format::Digest;
use serde::{Deserialize, Serialize};

use crate::cache::{digest, Cache};
use crate::encode::chunker::Policy;
use crate::host::stat::Facts;
use crate::tree::scan::Scanned;
use crate::tree::{Body, Extent};

/// A file that was changed so shortly before the build began is not remembered.
pub const RECENT: Duration = Duration::from_secs(1);

/// What the chunks of files depend on, beside their content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose<'a> {
    /// The root of the tree.
    pub root: &'a Path,
    /// Where chunks begin and end.
    pub policy: Policy,
    /// Whether there are holes.
    pub holes: bool,
}

impl Purpose<'_> {
    fn text(&self) -> String {
        let Purpose {
            root,
            policy,
            holes,
        } = self;
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        format!("files {policy:?} {holes} {root:?}")
    }
}

/// A chunk of the last build.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Digest of its content.
    #[serde(with = "digest")]
    pub content: Digest,
    /// Bytes of its content.
    pub len: u64,
    /// Whether it ends where it does since no small file followed.
    pub is_last: bool,
}

/// A file of the last build: its facts, whether compression makes it smaller, and its extents: chunk,
/// offset, length.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct File {
    facts: (u64, u64, u64, (i64, u32), (i64, u32)),
    /// Whether compression makes it smaller, if that was looked at.
    pub compressible: Option<bool>,
    extents: Vec<(u32, u32, u64)>,
}

impl File {
    /// Its extents; chunks count among [`Files::chunks`].
    pub fn extents(&self) -> impl ExactSizeIterator<Item = Extent> + '_ {
        let extent = |&(chunk, offset, len): &_| Extent { chunk, offset, len };
        self.extents.iter().map(extent)
    }
}

/// The files of the last build of a tree.
#[derive(Default)]
pub(crate) struct Files {
    /// Their chunks.
    pub chunks: Vec<Chunk>,
    files: HashMap<Facts, File>,
}

impl Files {
    /// Loads them; none if there was no build, or if what is there makes no sense.
    pub fn load(cache: &Cache, purpose: &Purpose<'_>) -> Self {
        let loaded: Option<(Vec<Chunk>, Vec<File>)> = cache.load("files", &purpose.text());
        let (chunks, files) = loaded.unwrap_or_default();
        let makes_sense = |file: &File| {
            let sum = file.extents().try_fold(0u64, |sum, extent| {
                let end = u64::from(extent.offset).checked_add(extent.len)?;
                let is_within = match chunks.get(extent.chunk as usize) {
                    Some(chunk) => end <= chunk.len,
                    None => extent.chunk == Extent::HOLE,
                };
                sum.checked_add(extent.len).filter(|_| is_within)
            });
            sum == Some(file.facts.2)
        };
        let files = files.into_iter().filter(makes_sense);
        let files = files.map(|file| (facts(&file), file)).collect();
        Files { chunks, files }
    }

    /// The file with these facts.
    pub fn get(&self, facts: &Facts) -> Option<&File> {
        self.files.get(facts)
    }

    /// Keeps the files of a tree that can be told from others. `before`, in seconds and nanoseconds,
    /// is when none of them had been looked at.
    pub fn save(
        cache: &Cache,
        purpose: &Purpose<'_>,
        scanned: &Scanned,
        chunks: &[Chunk],
        compressible: &HashMap<u32, bool>,
        before: (i64, u32),
    ) -> Result<()> {
        let mut files = Vec::new();
        let tree = &scanned.tree;
        for (ino, facts) in tree.inos().zip(&scanned.facts) {
            let Body::File { size, extents } = tree.node(ino).body else {
                continue;
            };
            if size == 0 || facts.ctime.1 == 0 || facts.ctime >= before {
                continue;
            }
            let extents = tree.extents(extents).iter();
            files.push(File {
                facts: (facts.dev, facts.ino, facts.size, facts.mtime, facts.ctime),
                compressible: compressible.get(&ino).copied(),
                extents: extents.map(|e| (e.chunk, e.offset, e.len)).collect(),
            });
        }
        cache.save("files", &purpose.text(), &(chunks, files))
    }
}

fn facts(file: &File) -> Facts {
    let (dev, ino, size, mtime, ctime) = file.facts;
    Facts {
        dev,
        ino,
        size,
        mtime,
        ctime,
    }
}
