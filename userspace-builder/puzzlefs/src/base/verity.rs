// SPDX-License-Identifier: Apache-2.0
//! fs-verity digests (Documentation/filesystems/fsverity.rst of the kernel): SHA-256,
//! blocks of 4096 bytes, no salt, as upstream PuzzleFS records them.

use sha2::{Digest as _, Sha256};

const BLOCK: usize = 4096;
const HASH: usize = 32;

/// The fs-verity file digest of `content`.
pub fn measure(content: &[u8]) -> [u8; HASH] {
    let mut measure = Measure::default();
    measure.update(content);
    measure.finish()
}

/// Computes a file digest piece by piece.
#[derive(Default)]
pub struct Measure {
    size: u64,
    /// The begun block.
    block: Vec<u8>,
    /// Hashes of the blocks before.
    hashes: Vec<u8>,
}

impl Measure {
    /// Adds the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(head);
            bytes = rest;
            if self.block.len() == BLOCK {
                self.hashes.extend_from_slice(&Sha256::digest(&self.block));
                self.block.clear();
            }
        }
    }

    /// The file digest.
    pub fn finish(mut self) -> [u8; HASH] {
        if !self.block.is_empty() {
            self.block.resize(BLOCK, 0);
            self.hashes.extend_from_slice(&Sha256::digest(&self.block));
        }
        let mut level = self.hashes;
        while level.len() > HASH {
            level = next_level(&level);
        }
        // struct fsverity_descriptor, include/uapi/linux/fsverity.h; reserved fields are 0.
        let mut descriptor = [0; 256];
        descriptor[0] = 1; // version
        descriptor[1] = 1; // hash_algorithm: FS_VERITY_HASH_ALG_SHA256
        descriptor[2] = 12; // log_blocksize
        descriptor[8..16].copy_from_slice(&self.size.to_le_bytes());
        // An empty file has a root hash of zeros.
        descriptor[16..16 + level.len()].copy_from_slice(&level);
        Sha256::digest(descriptor).into()
    }
}

/// The hashes of all blocks, the last one padded with zeros.
fn next_level(level: &[u8]) -> Vec<u8> {
    level
        .chunks(BLOCK)
        .flat_map(|block| {
            let padding = &[0; BLOCK][block.len()..];
            Sha256::new()
                .chain_update(block)
                .chain_update(padding)
                .finalize()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use puzzlefs_format::Digest;

    /// What `fsverity digest` (fsverity-utils 1.5) says of `yes abc | head -c SIZE`:
    /// no, part of, one, more than one block; one full level; two levels.
    #[test]
    fn known_digests() {
        for (size, digest) in [
            (
                0,
                "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
            ),
            (
                1,
                "bce75948b9e7510293f8f2720412af9697c1479281323f3f220623fb8e94b557",
            ),
            (
                4096,
                "5e69d6f75d557fb6f0d179c077cd2daea352b9a7f24f60d31d2324759bb07de7",
            ),
            (
                4097,
                "e81c58351be6d5d9ce26e967e4536895a407ead99f166dcbd91f34b5672e0fff",
            ),
            (
                524_288,
                "be3765912cf345703c251bf8292daf39134d9891db58eba0551faf9c1779348b",
            ),
            (
                600_000,
                "d44bc90eb74e2bfa72e33f74eb5c1366be27213968eeac10abc778eb37c9df05",
            ),
        ] {
            let content: Vec<u8> = b"abc\n".iter().copied().cycle().take(size).collect();
            let measured = Digest::from_bytes(measure(&content));
            assert_eq!(measured.to_string(), digest, "{size} bytes");
        }
    }
}
