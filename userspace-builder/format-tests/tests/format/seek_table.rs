// SPDX-License-Identifier: Apache-2.0

//! Seek tables against zstd's own seekable encoder and decoder.

use format_tests::config;
use proptest::collection::vec;
use proptest::prelude::*;
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
    }

    /// Damage is refused, or leaves a table that zstd reads alike and that still covers
    /// the chunk.
    #[test]
    fn damaged(data in data(), checksums: bool, at in 1..60usize, bits in 1..=255u8) {
        let mut stored = compress(&data, 4096, checksums);
        let at = stored.len().saturating_sub(at);
        stored[at] ^= bits;
        if let Ok(table) = SeekTable::parse(&stored) {
            let all: Vec<_> = table.frames().collect();
            prop_assert_eq!(&all, &frames(&stored));
            let end = all.last().map_or(0, |frame| frame.stored_offset + frame.stored_size);
            let table_size = SeekTable::tail_size(&stored).unwrap();
            prop_assert_eq!(end as usize + table_size, stored.len());
            prop_assert_eq!(table.decompressed_size(), all.iter().map(|f| f.size).sum::<u64>());
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
}

/// A chunk of zeros in the place of frames, and a table of these sizes.
fn with_table(entries: &[(u32, u32)]) -> Vec<u8> {
    let stored: u32 = entries.iter().map(|(stored, _)| stored).sum();
    let count = entries.len() as u32;
    let mut chunk = vec![0; stored as usize];
    chunk.extend(0x184d_2a5e_u32.to_le_bytes());
    chunk.extend((count * 8 + 9).to_le_bytes());
    for (stored, size) in entries {
        chunk.extend(stored.to_le_bytes());
        chunk.extend(size.to_le_bytes());
    }
    chunk.extend(count.to_le_bytes());
    chunk.push(0);
    chunk.extend(0x8f92_eab1_u32.to_le_bytes());
    chunk
}

#[test]
fn frame_sizes() {
    let error = |entries: &[_]| SeekTable::parse(&with_table(entries)).err();
    assert_eq!(error(&[]), None);
    assert_eq!(error(&[(9, 4096), (9, 0)]), None);
    assert_eq!(error(&[(9, 4096), (0, 0)]), Some(Error::BadSeekTable));
    let most = limits::MAX_CHUNK_BYTES as u32;
    assert_eq!(error(&[(9, most)]), None);
    assert_eq!(error(&[(9, most), (9, 1)]), Some(Error::LimitExceeded));
    assert_eq!(error(&[(9, u32::MAX); 20]), Some(Error::LimitExceeded));
    let table = 17 + 8;
    assert_eq!(error(&[(most - table, 1)]), None);
    assert_eq!(error(&[(most - table + 1, 1)]), Some(Error::LimitExceeded));
}

/// The skippable frame around the table is one, and of its size.
#[test]
fn header() {
    let stored = compress(&[1; 5000], 4096, false);
    let table = stored.len() - SeekTable::tail_size(&stored).unwrap();
    for at in table..table + 8 {
        let mut stored = stored.clone();
        stored[at] ^= 1;
        assert_eq!(SeekTable::parse(&stored).err(), Some(Error::BadSeekTable));
    }
}

/// Of the descriptor's bits one says that there are checksums, two mean nothing.
#[test]
fn descriptor() {
    let mut stored = compress(&[1; 5000], 4096, false);
    let at = stored.len() - 5;
    for bit in 0..8 {
        stored[at] = 1 << bit;
        let is_good = SeekTable::parse(&stored).is_ok();
        assert_eq!(is_good, bit < 2, "bit {bit}");
    }
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
