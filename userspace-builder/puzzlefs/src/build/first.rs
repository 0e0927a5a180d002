// SPDX-License-Identifier: Apache-2.0
//! Which chunks of a new image a profile means.

use puzzlefs_format::Digest;

use crate::base::error::Result;
use crate::encode::pipeline::Stored;
use crate::profile::{Profile, Run};
use crate::tree::{Body, Extent, Tree, ROOT_INO};

/// The chunks of `tree` that are read first, in the order of `profile`.
pub fn order(profile: &Profile, tree: &Tree, chunks: &[Stored]) -> Result<Vec<Digest>> {
    profile.order(|path| Ok(runs(tree, chunks, path)))
}

/// All of a file, if there is such a file.
fn runs(tree: &Tree, chunks: &[Stored], path: &[u8]) -> Option<Vec<Run>> {
    let mut ino = ROOT_INO;
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        let Body::Dir(entries) = tree.node(ino).body else {
            return None;
        };
        let entries = tree.entries(entries);
        let place = entries.binary_search_by(|entry| tree.text(entry.name).cmp(name));
        ino = entries[place.ok()?].ino;
    }
    let Body::File { extents, .. } = tree.node(ino).body else {
        return None;
    };
    let run = |extent: &Extent| {
        let chunk = chunks.get(extent.chunk as usize);
        (extent.len, chunk.map(|chunk| chunk.digest))
    };
    Some(tree.extents(extents).iter().map(run).collect())
}
