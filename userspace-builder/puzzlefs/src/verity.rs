// SPDX-License-Identifier: Apache-2.0
//! fs-verity digests (Documentation/filesystems/fsverity.rst of the kernel): SHA-256,
//! blocks of 4096 bytes, no salt, as upstream PuzzleFS records them.

use std::collections::BTreeMap;

use puzzlefs_format::Digest;
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 4096;
const HASH: usize = 32;

/// Digest of a blob to the fs-verity digest of its file.
pub type VerityMap = BTreeMap<Digest, [u8; HASH]>;

/// The fs-verity file digest of `content`.
pub fn measure(content: &[u8]) -> [u8; HASH] {
    let mut level = hash_blocks(content);
    while level.len() > HASH {
        level = hash_blocks(&level);
    }
    // struct fsverity_descriptor, include/uapi/linux/fsverity.h; reserved fields are 0.
    let mut descriptor = [0; 256];
    descriptor[0] = 1; // version
    descriptor[1] = 1; // hash_algorithm: FS_VERITY_HASH_ALG_SHA256
    descriptor[2] = 12; // log_blocksize
    descriptor[8..16].copy_from_slice(&(content.len() as u64).to_le_bytes());
    // An empty file has a root hash of zeros.
    descriptor[16..16 + level.len()].copy_from_slice(&level);
    Sha256::digest(descriptor).into()
}

/// The hashes of all blocks, the last one padded with zeros, one after another.
fn hash_blocks(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len().div_ceil(BLOCK) * HASH);
    for block in data.chunks(BLOCK) {
        let mut hash = Sha256::new();
        hash.update(block);
        hash.update(&[0; BLOCK][block.len()..]);
        out.extend_from_slice(&hash.finalize());
    }
    out
}
