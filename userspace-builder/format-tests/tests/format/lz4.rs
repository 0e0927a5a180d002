// SPDX-License-Identifier: Apache-2.0

//! LZ4 chunks against liblz4's own encoder and decoder.

use std::io::{Read, Write};

use format_tests::config;
use lz4::liblz4::BlockChecksum;
use lz4::{BlockMode, BlockSize, ContentChecksum, Decoder, EncoderBuilder};
use proptest::collection::vec;
use proptest::prelude::*;
use puzzlefs_format::{limits, Encoding, Error, Lz4Frame, VERSION_BASE, VERSION_LZ4};

/// Bytes before the block.
const HEADER: usize = 4 + 2 + 8 + 1 + 4;

/// What liblz4 makes of `data` with the settings that chunks have.
fn builder(data: &[u8]) -> EncoderBuilder {
    let mut builder = EncoderBuilder::new();
    builder
        .block_size(BlockSize::Max4MB)
        .block_mode(BlockMode::Independent)
        .block_checksum(BlockChecksum::NoBlockChecksum)
        .checksum(ContentChecksum::NoChecksum)
        .content_size(data.len() as u64);
    builder
}

fn write(builder: &EncoderBuilder, data: &[u8]) -> Vec<u8> {
    let mut encoder = builder.build(Vec::new()).unwrap();
    encoder.write_all(data).unwrap();
    let (stored, result) = encoder.finish();
    result.unwrap();
    stored
}

fn compress(data: &[u8]) -> Vec<u8> {
    write(&builder(data), data)
}

/// What liblz4 reads from a whole frame; `None` if it refuses it.
fn read(stored: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    let mut decoder = Decoder::new(stored).ok()?;
    decoder.read_to_end(&mut data).ok()?;
    decoder.finish().1.ok().map(|()| data)
}

/// Decompresses the block, as the kernel does.
fn decompress(frame: &Lz4Frame<'_>) -> Vec<u8> {
    let size = i32::try_from(frame.decompressed_size()).unwrap();
    lz4::block::decompress(frame.block(), Some(size)).unwrap()
}

/// Data that gets smaller: what does not is not stored as LZ4.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        (any::<u8>(), 1..9000usize).prop_map(|(byte, len)| vec![byte; len]),
        vec(any::<u8>(), 1..300),
    ];
    (vec(part, 0..8), 64..9000usize).prop_map(|(mut parts, zeros)| {
        parts.push(vec![
            0;
            zeros + parts.iter().map(Vec::len).sum::<usize>() / 64
        ]);
        parts.concat()
    })
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn agrees_with_liblz4(data in data(), level in 0..13u32, linked: bool) {
        let mut builder = builder(&data);
        builder.level(level);
        if linked {
            builder.block_mode(BlockMode::Linked);
        }
        let stored = write(&builder, &data);
        let frame = Lz4Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.decompressed_size(), data.len() as u64);
        prop_assert_eq!(frame.block().len() + HEADER + 4, stored.len());
        prop_assert_eq!(&decompress(&frame), &data);
    }

    /// Damage outside of the block is refused, or liblz4 reads the frame alike. The
    /// header's checksum is the one thing that only liblz4 looks at.
    #[test]
    fn damaged(data in data(), at in 0..HEADER + 4, bits in 1..=255u8) {
        let mut stored = compress(&data);
        let at = if at < HEADER { at } else { stored.len() + HEADER - 1 - at };
        stored[at] ^= bits;
        if let Ok(frame) = Lz4Frame::parse(&stored) {
            // The content size, the block's maximum, a flag without a meaning here, and the checksum.
            prop_assert!((4..15).contains(&at), "at {}", at);
            prop_assert!(frame.decompressed_size() <= limits::MAX_CHUNK_BYTES);
            prop_assert_eq!(frame.block().len() + HEADER + 4, stored.len());
        }
    }

    /// Each length but the right one is refused.
    #[test]
    fn cut_off(data in data(), cut: prop::sample::Index, more in vec(any::<u8>(), 1..40)) {
        let stored = compress(&data);
        let cut = cut.index(stored.len());
        prop_assert!(Lz4Frame::parse(&stored[..cut]).is_err());
        prop_assert!(Lz4Frame::parse(&[&stored[..], &more].concat()).is_err());
    }

    #[test]
    fn random(tail in vec(any::<u8>(), 0..200), header: bool) {
        let _ = Lz4Frame::parse(&tail);
        let head: &[u8] = if header { b"\x04\x22\x4d\x18\x68\x40" } else { b"\x04\x22\x4d\x18" };
        let _ = Lz4Frame::parse(&[head, &tail].concat());
    }
}

/// Forms of a frame that LZ4 has and chunks have not.
#[test]
fn other_forms() {
    let data = &[[7; 100_000], [9; 100_000]].concat();
    let bad = |stored: &[u8]| {
        assert!(read(stored).as_ref() == Some(data), "liblz4 takes it");
        assert_eq!(Lz4Frame::parse(stored).err(), Some(Error::BadLz4Frame));
    };
    let mut small = builder(data);
    small.block_size(BlockSize::Max64KB);
    bad(&write(&small, data));
    let mut checksum = builder(data);
    checksum.checksum(ContentChecksum::ChecksumEnabled);
    bad(&write(&checksum, data));
    let mut checksums = builder(data);
    checksums.block_checksum(BlockChecksum::BlockChecksumEnabled);
    bad(&write(&checksums, data));
    let mut no_size = builder(data);
    no_size.content_size(0);
    bad(&write(&no_size, data));
    assert!(Lz4Frame::parse(&compress(data)).is_ok());

    let two = [compress(&data[..100_000]), compress(&data[100_000..])].concat();
    assert_eq!(Lz4Frame::parse(&two).err(), Some(Error::BadLz4Frame));

    let noise: Vec<u8> = (0..500_u32).map(|i| ((i * i * i) >> 3) as u8).collect();
    assert_eq!(
        Lz4Frame::parse(&compress(&noise)).err(),
        Some(Error::BadLz4Frame),
        "a block that is not compressed"
    );
    assert!(Lz4Frame::parse(&compress(&[])).is_err());

    let mut empty = compress(&[1; 1000]);
    empty.truncate(HEADER);
    empty[HEADER - 4..].fill(0);
    empty.extend(0_u32.to_le_bytes());
    assert_eq!(Lz4Frame::parse(&empty).err(), Some(Error::BadLz4Frame));
}

/// Of the flags, only that of independent blocks may be either; of the sizes of blocks,
/// LZ4 has four, and nothing else in their byte.
#[test]
fn header() {
    let mut stored = compress(&[1; 1000]);
    for bit in 0..8 {
        stored[4] ^= 1 << bit;
        assert_eq!(Lz4Frame::parse(&stored).is_ok(), bit == 5, "bit {bit}");
        stored[4] ^= 1 << bit;
    }
    for byte in 0..=u8::MAX {
        stored[5] = byte;
        let is_good = matches!(byte, 0x40 | 0x50 | 0x60 | 0x70);
        assert_eq!(Lz4Frame::parse(&stored).is_ok(), is_good, "{byte:#x}");
    }
}

/// The content fits in a block of the size that the header allows.
#[test]
fn sizes() {
    for (size, max) in [
        (BlockSize::Max64KB, 64 << 10),
        (BlockSize::Max256KB, 256 << 10),
        (BlockSize::Max1MB, 1 << 20),
        // The block could have 4 MiB, the chunk cannot.
        (BlockSize::Max4MB, limits::MAX_CHUNK_BYTES as usize),
    ] {
        for len in [1000, max, max + 1] {
            let data = vec![1; len];
            let mut builder = builder(&data);
            builder.block_size(size.clone());
            let stored = write(&builder, &data);
            assert_eq!(
                Lz4Frame::parse(&stored).is_ok(),
                len <= max,
                "{len} of {max}"
            );
        }
    }
    let too_large = vec![0; limits::MAX_CHUNK_BYTES as usize + 1];
    assert_eq!(
        Lz4Frame::parse(&too_large).err(),
        Some(Error::LimitExceeded)
    );
}

/// zstd or LZ4: the first bytes decide, and the version whether LZ4 may be.
#[test]
fn encodings() {
    let stored = compress(&[1; 1000]);
    let lz4 = Encoding::parse(&stored, VERSION_LZ4).unwrap();
    assert!(matches!(lz4, Encoding::Lz4(_)));
    assert_eq!(lz4.decompressed_size(), 1000);
    for version in VERSION_BASE..VERSION_LZ4 {
        let error = Encoding::parse(&stored, version).err();
        assert_eq!(error, Some(Error::UnexpectedLz4));
    }
    let empty_table = b"\x5e\x2a\x4d\x18\x09\0\0\0\0\0\0\0\0\xb1\xea\x92\x8f";
    for version in VERSION_BASE..=VERSION_LZ4 {
        let zstd = Encoding::parse(empty_table, version).unwrap();
        assert!(matches!(zstd, Encoding::Zstd(_)));
        assert_eq!(zstd.decompressed_size(), 0);
        let neither = Encoding::parse(&stored[1..], version).err();
        assert_eq!(neither, Some(Error::BadSeekTable));
    }
}
