// SPDX-License-Identifier: Apache-2.0

//! Seek tables against zstd's own seekable encoder and decoder.

use format_tests::config;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use puzzlefs_format::{limits, Error, Frame, SeekTable};
use zstd_safe::seekable::{Seekable, SeekableCStream};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// Frames of at most `frame_size` bytes: upstream PuzzleFS has it at 4096.
fn compress(data: &[u8], frame_size: u32, checksums: bool) -> Vec<u8> {
    let mut stream = SeekableCStream::create();
    stream.init(3, checksums, frame_size).unwrap();
    let frames = data.len() / frame_size as usize + 2;
    let mut stored = vec![0; 2 * data.len() + 64 * frames];
    let mut output = OutBuffer::around(&mut stored[..]);
    let mut input = InBuffer::around(data);
    while input.pos() < data.len() {
        stream.compress_stream(&mut output, &mut input).unwrap();
    }
    while stream.end_stream(&mut output).unwrap() > 0 {}
    let len = output.pos();
    stored.truncate(len);
    stored
}

/// Frame by frame what zstd's decoder says of `stored`.
fn frames(stored: &[u8]) -> Vec<Frame> {
    let mut decoder = Seekable::create();
    decoder.init_buff(stored).unwrap();
    let frame = |index| Frame {
        stored_offset: decoder.frame_compressed_offset(index).unwrap(),
        stored_size: decoder.frame_compressed_size(index).unwrap() as u64,
        offset: decoder.frame_decompressed_offset(index).unwrap(),
        size: decoder.frame_decompressed_size(index).unwrap() as u64,
    };
    (0..decoder.num_frames()).map(frame).collect()
}

/// Decompresses one frame, as the kernel does: by itself.
fn decompress(stored: &[u8], frame: Frame) -> Vec<u8> {
    let start = frame.stored_offset as usize;
    let mut out = vec![0; frame.size as usize];
    let source = &stored[start..start + frame.stored_size as usize];
    let len = DCtx::create().decompress(&mut out[..], source).unwrap();
    assert_eq!(len as u64, frame.size);
    out
}

/// Data that compresses now well, now badly.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        (any::<u8>(), 1..9000usize).prop_map(|(byte, len)| vec![byte; len]),
        vec(any::<u8>(), 1..3000),
        Just(vec![7; 4096]),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn agrees_with_zstd(
        data in data(),
        frame_size in prop_oneof![Just(4096u32), 64..10_000u32, Just(1 << 20)],
        checksums: bool,
        range: (Index, Index),
    ) {
        let stored = compress(&data, frame_size, checksums);
        let table = SeekTable::parse(&stored).unwrap();
        prop_assert_eq!(table.decompressed_size(), data.len() as u64);
        prop_assert_eq!(table.frames().collect::<Vec<_>>(), frames(&stored));
        let whole: Vec<u8> = table.frames().flat_map(|f| decompress(&stored, f)).collect();
        prop_assert_eq!(&whole, &data);

        // The end of a chunk is enough.
        let tail = SeekTable::tail_size(&stored[stored.len() - 9..]).unwrap();
        let tail = &stored[stored.len() - tail..];
        let from_tail = SeekTable::parse_tail(tail, stored.len() as u64).unwrap();
        prop_assert_eq!(from_tail.frames().collect::<Vec<_>>(), frames(&stored));
        prop_assert_eq!(
            SeekTable::parse_tail(&tail[1..], stored.len() as u64).err(),
            Some(Error::Truncated)
        );

        // The frames that cover a range hold it, and none of them is one too many.
        let (a, b) = (range.0.index(data.len() + 1), range.1.index(data.len() + 1));
        let (start, end) = (a.min(b), a.max(b));
        let covering: Vec<_> = table.covering(start as u64..end as u64).collect();
        let bytes: Vec<u8> = covering.iter().flat_map(|f| decompress(&stored, *f)).collect();
        let first = covering.first().map_or(start, |frame| frame.offset as usize);
        prop_assert_eq!(&bytes[start - first..end - first], &data[start..end]);
        for frame in covering {
            let span = frame.offset as usize..(frame.offset + frame.size) as usize;
            prop_assert!(span.start < end && span.end > start);
        }
    }

    /// Damage is refused, or leaves a table that still covers the chunk.
    #[test]
    fn damaged(data in data(), checksums: bool, at in 1..60usize, bits in 1..=255u8) {
        let mut stored = compress(&data, 4096, checksums);
        let at = stored.len().saturating_sub(at);
        stored[at] ^= bits;
        if let Ok(table) = SeekTable::parse(&stored) {
            let stored_end = table.frames().last().map_or(0, |f| f.stored_offset + f.stored_size);
            let count = table.frames().count();
            let entry = if stored[stored.len() - 5] & 0x80 != 0 { 12 } else { 8 };
            prop_assert_eq!(stored_end as usize + count * entry + 17, stored.len());
            prop_assert_eq!(table.decompressed_size(), table.frames().map(|f| f.size).sum::<u64>());
        }
    }

    #[test]
    fn random(mut stored in vec(any::<u8>(), 0..200), frames in 0..20u32, checksums: bool) {
        let _ = SeekTable::parse(&stored);
        // With a good footer.
        stored.extend(frames.to_le_bytes());
        stored.push(u8::from(checksums) << 7);
        stored.extend(0x8f92_eab1_u32.to_le_bytes());
        let _ = SeekTable::parse(&stored).map(|table| table.frames().count());
    }
}

/// The encoder ends with an empty frame where the last one is just full.
#[test]
fn empty_last_frame() {
    let stored = compress(&[1; 8192], 4096, false);
    let table = SeekTable::parse(&stored).unwrap();
    assert_eq!(
        table.frames().map(|f| f.size).collect::<Vec<_>>(),
        [4096, 4096, 0]
    );
    assert_eq!(table.covering(0..8192).count(), 2);
}

/// The biggest chunk fits in upstream's frames, and one byte more does not.
#[test]
fn biggest() {
    let mut data = vec![0; limits::MAX_CHUNK_BYTES as usize];
    let stored = compress(&data, 4096, true);
    let table = SeekTable::parse(&stored).unwrap();
    assert_eq!(table.decompressed_size(), limits::MAX_CHUNK_BYTES);
    assert_eq!(table.frames().count(), limits::MAX_FRAMES as usize);

    data.push(0);
    let stored = compress(&data, 8192, true);
    assert_eq!(SeekTable::parse(&stored).err(), Some(Error::LimitExceeded));
}
