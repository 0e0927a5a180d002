// SPDX-License-Identifier: GPL-2.0

//! Chunks, packs and manifests, made for tests, sound as they are.

use puzzlefs_format::{Digest, PackEntry, PackTrailer};
use sha2::{Digest as _, Sha256};
use zstd_safe::{CCtx, CParameter};

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The name of the blob `bytes`.
pub fn name(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

/// The name of the blob with this digest.
pub fn hex(digest: &[u8; 32]) -> String {
    let hex = Digest::from_bytes(*digest).to_hex();
    String::from_utf8_lossy(&hex).into_owned()
}

/// Content that compresses by some half.
pub fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        bytes.extend_from_slice(if state % 3 == 0 { &word } else { b"the same" });
    }
    bytes.truncate(len);
    bytes
}

/// How a zstd frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zstd {
    /// Content of each frame, in bytes.
    pub frame: usize,
    /// Whether the header says the content's size.
    pub has_size: bool,
    /// Whether there is a checksum.
    pub has_checksum: bool,
    /// The log of the window.
    pub window_log: u32,
}

impl Zstd {
    /// As our builder writes chunks: one frame.
    pub const PLAIN: Self = Self {
        frame: usize::MAX,
        has_size: true,
        has_checksum: false,
        window_log: 20,
    };

    /// `content`, compressed so, with a seek table.
    pub fn chunk(self, content: &[u8]) -> Vec<u8> {
        let mut chunk = Vec::new();
        let mut entries = Vec::new();
        for part in content.chunks(self.frame.max(1)) {
            let frame = self.compress(part);
            entries.push((frame.len(), part.len()));
            chunk.extend(frame);
        }
        chunk.extend(seek_table(&entries));
        chunk
    }

    fn compress(self, content: &[u8]) -> Vec<u8> {
        let mut context = CCtx::create();
        let parameters = [
            CParameter::ContentSizeFlag(self.has_size),
            CParameter::ChecksumFlag(self.has_checksum),
            CParameter::WindowLog(self.window_log),
            CParameter::CompressionLevel(3),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).expect("a good parameter");
        }
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
        context
            .compress2(&mut frame, content)
            .expect("there is room");
        frame
    }
}

/// The table of frames of these sizes, as stored and of their content.
pub fn seek_table(frames: &[(usize, usize)]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut table = 0x184d_2a5e_u32.to_le_bytes().to_vec();
    table.extend(word(frames.len() * 8 + 9));
    for (stored, content) in frames {
        table.extend(word(*stored));
        table.extend(word(*content));
    }
    table.extend(word(frames.len()));
    table.push(0);
    table.extend(0x8f92_eab1_u32.to_le_bytes());
    table
}

/// `content` as one LZ4 frame.
pub fn lz4(content: &[u8]) -> Vec<u8> {
    let block = lz4::block::compress(content, None, false).expect("a good block");
    let mut frame = 0x184d_2204_u32.to_le_bytes().to_vec();
    frame.extend([0x68, 0x70]);
    frame.extend((content.len() as u64).to_le_bytes());
    frame.push(0);
    frame.extend((block.len() as u32).to_le_bytes());
    frame.extend(block);
    frame.extend([0; 4]);
    frame
}

/// Where chunks are in a pack that has them one after another.
pub fn entries(chunks: &[Vec<u8>]) -> Vec<PackEntry> {
    let mut offset = 0;
    let mut entries = Vec::new();
    for chunk in chunks {
        let size = chunk.len() as u32;
        let digest = Digest::from_bytes(sha256(chunk));
        entries.push(PackEntry {
            digest,
            offset,
            size,
        });
        offset += size;
    }
    entries.sort_by_key(|entry| entry.digest);
    entries.dedup_by_key(|entry| entry.digest);
    entries
}

/// A pack of `chunks` whose index has `entries`.
pub fn pack_with(chunks: &[Vec<u8>], entries: &[PackEntry]) -> Vec<u8> {
    let mut pack = chunks.concat();
    for entry in entries {
        pack.extend(entry.to_bytes());
    }
    pack.extend(PackTrailer::to_bytes(entries.len() as u32));
    pack
}

/// A pack of `chunks`.
pub fn pack(chunks: &[Vec<u8>]) -> Vec<u8> {
    pack_with(chunks, &entries(chunks))
}

/// The manifest of an image of `rootfs`, with these packs.
pub fn manifest(rootfs: &[u8], packs: &[Vec<u8>]) -> Vec<u8> {
    let layer = |kind: &str, blob: &[u8]| {
        let (digest, size) = (name(blob), blob.len());
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{size}}}"#)
    };
    let mut layers = vec![layer(puzzlefs_format::MEDIA_TYPE_ROOTFS, rootfs)];
    for pack in packs {
        layers.push(layer(puzzlefs_format::MEDIA_TYPE_PACK, pack));
    }
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,"layers":[{layers}]}}"#).into_bytes()
}
