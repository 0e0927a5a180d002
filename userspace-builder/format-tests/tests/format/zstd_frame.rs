// SPDX-License-Identifier: Apache-2.0

//! zstd frames against zstd's own encoder and decoder: what it writes is taken, and what is taken
//! has one content, by one call and as a stream.

use format_tests::config;
use proptest::collection::vec;
use proptest::prelude::*;
use puzzlefs_format::{Encoding, Error, SeekTable, ZstdFrame, VERSION_BASE};
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer};

const LAST: u32 = 1;
const RAW: u32 = 0;
const RLE: u32 = 1 << 1;
const COMPRESSED: u32 = 2 << 1;

/// A chunk of one frame, and a table that says that it has `size` bytes of content.
fn chunk(frame: &[u8], size: usize) -> Vec<u8> {
    let mut chunk = frame.to_vec();
    chunk.extend(0x184d_2a5e_u32.to_le_bytes());
    chunk.extend(17_u32.to_le_bytes());
    chunk.extend((frame.len() as u32).to_le_bytes());
    chunk.extend((size as u32).to_le_bytes());
    chunk.extend(1_u32.to_le_bytes());
    chunk.push(0);
    chunk.extend(0x8f92_eab1_u32.to_le_bytes());
    chunk
}

/// Why a frame is refused, if it is.
fn refused(frame: &[u8], size: usize) -> Option<Error> {
    Encoding::parse(&chunk(frame, size), VERSION_BASE).err()
}

fn block(kind: u32, size: usize, bytes: &[u8]) -> Vec<u8> {
    let header = kind | ((size as u32) << 3);
    [&header.to_le_bytes()[..3], bytes].concat()
}

/// A frame without a size, whose window is 1 KiB.
fn frame(blocks: &[Vec<u8>]) -> Vec<u8> {
    [
        &0xfd2f_b528_u32.to_le_bytes()[..],
        &[0, 0],
        &blocks.concat(),
    ]
    .concat()
}

/// A compressed block: no literals, and one match of four bytes, this far back.
fn match_block(kind: u32, distance: u32) -> Vec<u8> {
    // The code of an offset is the number of bits that follow it.
    let value = distance + 3;
    let code = value.ilog2();
    // Symbols that are the same in all sequences: codes of no literals, the offset, length 4.
    let mut bytes = vec![0, 1, 0b0101_0100, 0, code as u8, 1];
    // Behind a bit that is set come those of the offset: together they are its value.
    let stream = value.to_le_bytes();
    bytes.extend(&stream[..(code as usize + 8) / 8]);
    let size = bytes.len();
    block(COMPRESSED | kind, size, &bytes)
}

/// What comes out by one call.
fn whole(frame: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; size];
    let written = DCtx::create().decompress(&mut out[..], frame).ok()?;
    (written == size).then_some(out)
}

/// What comes out of the stream, in steps of so many bytes, as far as that goes; and whether the
/// frame ends there.
fn stream(stored: &[u8], size: usize, step: usize) -> (Vec<u8>, bool) {
    let chunk = chunk(stored, size);
    let table = SeekTable::parse(&chunk).unwrap();
    let frame = ZstdFrame::parse(&chunk, &table.frames().next().unwrap()).unwrap();
    let mut zstd = DCtx::create();
    let header = frame.stream_header();
    let mut output = Vec::new();
    let mut input = InBuffer::around(&header[..]);
    let mut none = [0; 0];
    let hint = zstd.decompress_stream(&mut OutBuffer::around(&mut none[..]), &mut input);
    hint.unwrap();
    assert_eq!(input.pos(), header.len());
    let mut input = InBuffer::around(frame.blocks());
    loop {
        let mut memory = vec![0; step.min(size - output.len())];
        let mut part = OutBuffer::around(&mut memory[..]);
        let before = input.pos();
        let hint = zstd.decompress_stream(&mut part, &mut input);
        let written = part.pos();
        let Ok(hint) = hint else {
            return (output, false);
        };
        output.extend(&memory[..written]);
        if hint == 0 {
            let is_all = output.len() == size && input.pos() == frame.blocks().len();
            return (output, is_all);
        }
        if (before, 0) == (input.pos(), written) {
            return (output, false);
        }
    }
}

/// A taken frame has one content: what the stream gives is the begin of what one call gives, and
/// all of it if that is short.
fn agrees(stored: &[u8], size: usize, step: usize) -> Result<(), TestCaseError> {
    let (part, is_all) = stream(stored, size, step);
    if let Some(content) = whole(stored, size) {
        prop_assert_eq!(&part[..], &content[..part.len()]);
        if size <= 128 << 10 {
            prop_assert!(is_all, "only one call takes it");
        }
    } else {
        prop_assert!(!is_all, "only the stream takes it");
    }
    Ok(())
}

/// The reported frame: a match that reaches further back than the window.
#[test]
fn further_back_than_the_window() {
    let block_of = |i: u32| {
        let bytes: Vec<u8> = (0..1024_u32)
            .map(|at| ((i * 1024 + at).wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        block(RAW, 1024, &bytes)
    };
    for distance in [4, 1024, 1025, 3500, 8000] {
        let mut blocks: Vec<_> = (0..8).map(block_of).collect();
        blocks.push(match_block(LAST, distance));
        let stored = frame(&blocks);
        let size = 8 * 1024 + 4;
        assert_eq!(refused(&stored, size), None);
        let content = whole(&stored, size).unwrap();
        let from = 8 * 1024 - distance as usize;
        assert_eq!(content[8 * 1024..], content[from..from + 4]);
        for step in [1, 1000, 4096, size] {
            assert_eq!(stream(&stored, size, step), (content.clone(), true));
        }
    }
    let stored = frame(&[block_of(0), match_block(LAST, 1025)]);
    assert_eq!(whole(&stored, 1028), None);
    assert!(!stream(&stored, 1028, 1028).1);
}

#[test]
fn blocks() {
    let raw = |kind, len: usize| block(RAW | kind, len, &vec![7; len]);
    let rle = |kind, len| block(RLE | kind, len, &[7]);
    let good = [raw(0, 10), rle(0, 1000), raw(LAST, 0)];
    assert_eq!(refused(&frame(&good), 1010), None);
    let bad = Some(Error::BadZstdFrame);
    for size in [0, 1009, 1011, 1 << 20] {
        assert_eq!(refused(&frame(&good), size), bad, "a content of {size}");
    }
    assert_eq!(refused(&frame(&[rle(LAST, 1024)]), 1024), None);
    assert_eq!(refused(&frame(&[rle(LAST, 1025)]), 1025), bad);
    let reserved = block((3 << 1) | LAST, 10, &[0; 10]);
    assert_eq!(refused(&frame(&[reserved]), 10), bad);
    for empty in [block(COMPRESSED, 0, &[]), block(COMPRESSED, 1, &[0])] {
        assert_eq!(refused(&frame(&[empty, raw(LAST, 10)]), 10), bad);
    }
    // Frames without content.
    assert_eq!(refused(&frame(&[raw(LAST, 0)]), 0), None);
    assert_eq!(refused(&frame(&[match_block(LAST, 1)]), 0), bad);
    // No last block, and blocks behind it.
    assert_eq!(refused(&frame(&[raw(0, 10)]), 10), Some(Error::Truncated));
    assert_eq!(refused(&frame(&[raw(LAST, 10), raw(LAST, 0)]), 10), bad);
}

/// Frames one after another are not one, nor is what zstd skips.
#[test]
fn one_frame() {
    let one = frame(&[block(RAW | LAST, 5, b"hello")]);
    assert_eq!(refused(&one, 5), None);
    let bad = Some(Error::BadZstdFrame);
    assert_eq!(refused(&[&one[..], &one].concat(), 10), bad);
    let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &[1, 0, 0, 0, 9]].concat();
    assert_eq!(whole(&[&skipped[..], &one].concat(), 5).unwrap(), b"hello");
    assert_eq!(refused(&[&skipped[..], &one].concat(), 5), bad);
    assert_eq!(refused(&skipped, 0), bad);
}

fn compress(data: &[u8], level: i32, set: &[CParameter], is_known: bool) -> Vec<u8> {
    let mut zstd = CCtx::create();
    zstd.set_parameter(CParameter::CompressionLevel(level))
        .unwrap();
    for parameter in set {
        zstd.set_parameter(*parameter).unwrap();
    }
    let mut stored = vec![0; zstd_safe::compress_bound(data.len()) + 1000];
    let len = if is_known {
        zstd.compress2(&mut stored[..], data).unwrap()
    } else {
        let mut output = OutBuffer::around(&mut stored[..]);
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            zstd.compress_stream(&mut output, &mut input).unwrap();
        }
        while zstd.end_stream(&mut output).unwrap() > 0 {}
        output.pos()
    };
    stored.truncate(len);
    stored
}

/// Data that compresses now well, now badly.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        (any::<u8>(), 1..40_000usize).prop_map(|(byte, len)| vec![byte; len]),
        vec(any::<u8>(), 1..3000),
        vec(0..4u8, 1..9000),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Settings that change what a frame looks like.
fn settings() -> impl Strategy<Value = Vec<CParameter>> {
    (any::<bool>(), 10..28u32, any::<bool>(), 0..3u32).prop_map(|(checksum, log, long, block)| {
        let mut set = vec![CParameter::ChecksumFlag(checksum)];
        if log < 20 || long {
            set.push(CParameter::WindowLog(log));
        }
        if long {
            set.push(CParameter::EnableLongDistanceMatching(true));
        }
        if block > 0 {
            set.push(CParameter::TargetCBlockSize(1340 * block));
        }
        set
    })
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn what_zstd_writes_is_taken(
        data in data(), level in 1..20i32, set in settings(), is_known: bool, step in 1..70_000usize,
    ) {
        let stored = compress(&data, level, &set, is_known);
        prop_assert_eq!(refused(&stored, data.len()), None);
        if !data.is_empty() {
            prop_assert_eq!(stream(&stored, data.len(), step), (data.clone(), true));
        }
        // Each byte less or more, and each other size, is refused.
        prop_assert!(refused(&stored[..stored.len() - 1], data.len()).is_some());
        prop_assert!(refused(&[&stored[..], &[0]].concat(), data.len()).is_some());
        if is_known && !data.is_empty() {
            prop_assert!(refused(&stored, data.len() + 1).is_some());
        }
    }

    #[test]
    fn what_is_damaged_has_one_content(
        data in data(), level in 1..20i32, set in settings(), is_known: bool, step in 1..70_000usize,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut stored = compress(&data, level, &set, is_known);
        for (at, byte) in damage {
            let at = at.index(stored.len());
            stored[at] = byte;
        }
        if refused(&stored, data.len()).is_none() && !data.is_empty() {
            agrees(&stored, data.len(), step)?;
        }
    }
}
