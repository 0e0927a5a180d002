// SPDX-License-Identifier: GPL-2.0

//! What a chunk decompresses to does not depend on how.

use super::decoder::Decoder;
use crate::chunk::{content, lz4, Zstd};
use kernel::{alloc, prelude::*};
use puzzlefs_format::Encoding;
use vfs::{task, Output};

/// Forms of zstd chunks: one frame or several, short ones that one call takes and longer ones, with
/// what a header may say and not.
const FORMS: [Zstd; 6] = [
    Zstd::PLAIN,
    Zstd {
        has_size: false,
        ..Zstd::PLAIN
    },
    Zstd {
        has_checksum: true,
        ..Zstd::PLAIN
    },
    Zstd {
        frame: 4096,
        ..Zstd::PLAIN
    },
    Zstd {
        has_size: false,
        window_log: 10,
        ..Zstd::PLAIN
    },
    Zstd {
        frame: 3000,
        has_size: false,
        has_checksum: true,
        window_log: 10,
    },
];

fn forms(size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let data = content(size, 11);
    let mut chunks: Vec<Vec<u8>> = FORMS.iter().map(|form| form.chunk(&data)).collect();
    chunks.push(lz4(&data));
    (data, chunks)
}

fn parse(chunk: &[u8]) -> Encoding<'_> {
    Encoding::parse(chunk, 6).expect("it is sound")
}

fn size(encoding: &Encoding<'_>) -> usize {
    encoding.decompressed_size() as usize
}

/// What comes out as a whole.
fn whole(decoder: &mut Decoder, chunk: &[u8]) -> Result<Vec<u8>> {
    let encoding = parse(chunk);
    let mut bytes = vec![0xa5; size(&encoding)];
    let mut written = 0;
    decoder.whole(
        &encoding,
        chunk,
        &mut Output::resume(&mut bytes, &mut written),
    )?;
    assert_eq!(written, bytes.len());
    Ok(bytes)
}

/// What comes out up to each of `ends`, one after the other, as far as that goes.
fn parts(decoder: &mut Decoder, chunk: &[u8], ends: &[usize]) -> (Vec<u8>, Result) {
    let encoding = parse(chunk);
    let mut bytes = vec![0xa5; size(&encoding)];
    let mut written = 0;
    decoder.restart();
    for end in ends {
        // More than was asked for may be there: of LZ4 always all.
        if written >= *end {
            continue;
        }
        let before = bytes[..written].to_vec();
        let mut output = Output::resume(&mut bytes, &mut written);
        if let Err(error) = decoder.advance(&encoding, chunk, &mut output, *end) {
            return (before, Err(error));
        }
        assert!(written >= *end, "{end} bytes were asked for");
        assert!(bytes.starts_with(&before), "what was there has changed");
    }
    bytes.truncate(written);
    (bytes, Ok(()))
}

#[test]
fn the_whole_is_what_comes_little_by_little_at_every_split() {
    let (data, chunks) = forms(9500);
    let mut decoder = Decoder::default();
    for chunk in &chunks {
        assert!(whole(&mut decoder, chunk) == Ok(data.clone()));
        for split in 0..=data.len() {
            let (bytes, result) = parts(&mut decoder, chunk, &[split, data.len()]);
            assert!(result.is_ok() && bytes == data, "at {split}");
        }
        for step in [1, 7, 4096, 5000] {
            let mut ends: Vec<usize> = (step..data.len()).step_by(step).collect();
            ends.push(data.len());
            let (bytes, result) = parts(&mut decoder, chunk, &ends);
            assert!(result.is_ok() && bytes == data, "by {step}");
        }
    }
}

#[test]
fn a_whole_read_in_between_does_not_move_what_was_begun() {
    let (data, chunks) = forms(9500);
    for chunk in &chunks {
        let encoding = parse(chunk);
        for split in [1, 2999, 3001, 4096, 6000, 9499] {
            let mut decoder = Decoder::default();
            let (mut bytes, mut written) = (vec![0; data.len()], 0);
            let mut output = Output::resume(&mut bytes, &mut written);
            decoder
                .advance(&encoding, chunk, &mut output, split)
                .unwrap();
            assert!(whole(&mut decoder, chunk) == Ok(data.clone()));
            if written < data.len() {
                let mut output = Output::resume(&mut bytes, &mut written);
                let result = decoder.advance(&encoding, chunk, &mut output, data.len());
                assert_eq!(result, Ok(()), "from {split} on");
            }
            assert!(bytes == data);
        }
    }
}

#[test]
fn damaged_ones_fail_the_same_everywhere() {
    let (data, chunks) = forms(6500);
    let mut decoder = Decoder::default();
    for chunk in &chunks {
        for at in (0..chunk.len()).step_by(3) {
            let mut damaged = chunk.clone();
            damaged[at] ^= 1 << (at % 8);
            if Encoding::parse(&damaged, 6).is_err() {
                continue;
            }
            let all = whole(&mut decoder, &damaged);
            let end = size(&parse(&damaged));
            let mut prefix: Option<Vec<u8>> = None;
            for step in [1000, 4096, data.len()] {
                let mut ends: Vec<usize> = (step..end).step_by(step).collect();
                ends.push(end);
                let (bytes, result) = parts(&mut decoder, &damaged, &ends);
                match &all {
                    Ok(all) => assert!(result.is_ok() && bytes == *all, "at {at} by {step}"),
                    Err(error) => assert_eq!(result, Err(*error), "at {at} by {step}"),
                }
                let other = prefix.get_or_insert(bytes.clone());
                let common = other.len().min(bytes.len());
                assert!(other[..common] == bytes[..common], "at {at} by {step}");
            }
        }
    }
}

#[test]
fn who_is_killed_or_has_no_memory_spoils_nothing() {
    let (data, chunks) = forms(600_000);
    for chunk in &chunks {
        let ends = [10, 300_000, 600_000];
        for after in 0..6 {
            let mut decoder = Decoder::default();
            task::dies_in(Some(after));
            let (bytes, result) = parts(&mut decoder, chunk, &ends);
            task::dies_in(None);
            assert!(matches!(result, Ok(()) | Err(EINTR)) && data.starts_with(&bytes));
            alloc::fail_in(Some(after));
            let (bytes, result) = parts(&mut decoder, chunk, &ends);
            alloc::fail_in(None);
            assert!(matches!(result, Ok(()) | Err(ENOMEM)) && data.starts_with(&bytes));
            let (bytes, result) = parts(&mut decoder, chunk, &ends);
            assert!(result.is_ok() && bytes == data);
            assert!(whole(&mut decoder, chunk) == Ok(data.clone()));
        }
    }
}
