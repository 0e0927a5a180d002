// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A chunk compressed by LZ4.
//!
//! - A frame that is accepted is header, block and end, and nothing else, within its limits.
//! - If its block decompresses to the size that it says, liblz4 reads the frame so, too (once the
//!   header's checksum, which we do not look at, is put right).

use libfuzzer_sys::fuzz_target;
use lz4::{block, Decoder};
use puzzlefs_format::{limits, Encoding, Lz4Frame, VERSION_BASE, VERSION_LZ4};
use std::io::Read;

/// Bytes in front of the block, and of its end mark.
const HEADER: usize = 4 + 2 + 8 + 1 + 4;
const END: usize = 4;

/// Larger contents are not compared: that takes its time.
const MAX: u64 = 64 << 10;

/// What liblz4 makes of a frame, whose header has one byte wrong at most; by trial, since what
/// it compares with is not ours to compute.
fn liblz4(stored: &[u8]) -> Option<Vec<u8>> {
    let mut stored = stored.to_vec();
    (0..=255).find_map(|checksum| {
        stored[14] = checksum;
        let mut data = Vec::new();
        let mut decoder = Decoder::new(&stored[..]).ok()?;
        decoder.read_to_end(&mut data).ok()?;
        decoder.finish().1.ok().map(|()| data)
    })
}

fuzz_target!(|stored: &[u8]| {
    let Ok(frame) = Lz4Frame::parse(stored) else {
        return;
    };
    assert!(Lz4Frame::has_magic(stored));
    assert_eq!(frame.block(), &stored[HEADER..stored.len() - END]);
    assert!(!frame.block().is_empty());
    let size = frame.decompressed_size();
    assert!((1..=4 << 20).contains(&size) && size <= limits::MAX_CHUNK_BYTES);
    let encoding = Encoding::parse(stored, VERSION_LZ4).expect("an LZ4 chunk");
    assert_eq!(encoding.decompressed_size(), size);
    assert!(Encoding::parse(stored, VERSION_BASE).is_err());

    if size <= MAX {
        let size = i32::try_from(size).expect("it is small");
        if let Ok(data) = block::decompress(frame.block(), Some(size)) {
            if data.len() as u64 == frame.decompressed_size() {
                assert_eq!(liblz4(stored), Some(data));
            }
        }
    }
});
