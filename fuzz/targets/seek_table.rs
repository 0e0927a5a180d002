// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A chunk compressed by zstd, and the seek table at its end.
//!
//! - From the whole chunk and from its end alone the table is the same, or the same error.
//! - Its frames follow one another, stored and decompressed, without gaps, fill the chunk up to
//!   the table, and are within their limits.
//! - The chunk is taken, or one of its frames is said to be bad.

use libfuzzer_sys::fuzz_target;
use puzzlefs_format::{limits, Encoding, Error, Lz4Frame, SeekTable, VERSION_LZ4};

fuzz_target!(|stored: &[u8]| {
    let size = stored.len() as u64;
    let table = SeekTable::parse(stored);
    let tail_size = SeekTable::tail_size(stored);
    let Ok(table) = table else {
        if let Some(tail) = tail_size.ok().and_then(|len| stored.len().checked_sub(len)) {
            let from_tail = SeekTable::parse_tail(&stored[tail..], size);
            assert_eq!(from_tail.err(), table.err());
        }
        return;
    };
    let tail_size = tail_size.expect("it was parsed");
    let tail = &stored[stored.len() - tail_size..];
    let from_tail = SeekTable::parse_tail(tail, size).expect("the same");
    assert!(table.frames().eq(from_tail.frames()));
    assert!(SeekTable::parse_tail(&tail[1..], size).is_err());
    assert!(SeekTable::parse_tail(tail, size + 1).is_err());

    let (mut stored_end, mut end, mut count) = (0, 0, 0);
    for frame in table.frames() {
        assert_eq!((frame.stored_offset, frame.offset), (stored_end, end));
        assert!(frame.stored_size > 0);
        stored_end += frame.stored_size;
        end += frame.size;
        count += 1;
    }
    assert!(count <= limits::MAX_FRAMES && end <= limits::MAX_CHUNK_BYTES);
    assert_eq!(stored_end + tail_size as u64, size);
    assert_eq!(table.decompressed_size(), end);
    if !Lz4Frame::has_magic(stored) {
        match Encoding::parse(stored, VERSION_LZ4) {
            Ok(encoding) => assert_eq!(encoding.decompressed_size(), end),
            Err(error) => assert_eq!(error, Error::BadZstdFrame),
        }
    }
});
