// SPDX-License-Identifier: Apache-2.0
//! Reading a Rootfs in blocks (FORMAT.md, section 3.5): which chunks they are.

use std::collections::HashMap;

use anyhow::Result;
use puzzlefs_format::{limits, Blocks, Inode, Kind};

use super::chunk::Key;

/// Bytes of a block.
pub const BYTES: usize = limits::BLOCK_BYTES as usize;

/// Whether `copy`, the root directory in a Rootfs blob, is that of the message, `root`.
pub fn is_copy(copy: &Inode<'_>, root: &Inode<'_>) -> Result<bool> {
    let facts = |inode: &Inode<'_>| -> Result<_> {
        let owner = (inode.uid(), inode.gid(), inode.permissions());
        let links = (inode.nlink(), inode.parent());
        Ok((owner, links, inode.mtime(), inode.may_have_xattrs()?))
    };
    let len = match root.kind()? {
        Kind::Dir(entries) => u64::from(entries.len()),
        _ => 0,
    };
    Ok(facts(copy)? == facts(root)? && copy.recorded_size().unwrap_or(0) == len)
}

/// The chunks that are blocks, each once, in the order of the message.
pub fn keys(blocks: &Blocks<'_>) -> Result<Vec<Key>> {
    let mut seen = std::collections::HashSet::new();
    let mut keys = Vec::new();
    for block in blocks.iter() {
        let chunk = block?.chunk;
        let key = (chunk.digest, chunk.compressed);
        keys.extend(seen.insert(key).then_some(key));
    }
    Ok(keys)
}

/// Where in `keys` each is.
pub fn numbers(keys: &[Key]) -> HashMap<Key, usize> {
    keys.iter().copied().zip(0..).collect()
}
