// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! The frame of metadata, byte by byte.

use puzzlefs_format::{blob_kind, limits, BlobKind, Error, Rootfs};

/// A message of these segments, all words given.
fn message(segments: &[&[u64]]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut message = number(segments.len() - 1).to_vec();
    for segment in segments {
        message.extend(number(segment.len()));
    }
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(segments.concat().iter().flat_map(|word| word.to_le_bytes()));
    message
}

fn error(segments: &[&[u64]]) -> Option<Error> {
    Rootfs::parse(&message(segments)).err()
}

/// A pointer to a struct of one word of data, right behind it.
const STRUCT: u64 = 1 << 32;
/// The same that has a pointer, too.
const STRUCT_WITH_POINTER: u64 = (1 << 48) | (1 << 32);
/// A pointer to a struct of one word of data, right before it.
const BEHIND: u64 = STRUCT | 0xffff_fff8;
const VERSION: u64 = 3;

/// A far pointer to `word` of segment `segment`.
const fn far(segment: u64, word: u64) -> u64 {
    (segment << 32) | (word << 3) | 2
}

const fn double_far(segment: u64, word: u64) -> u64 {
    far(segment, word) | 4
}

/// A pointer to a composite list of `words` words, right behind it.
const fn list(words: u64) -> u64 {
    (words << 35) | (7 << 32) | 1
}

/// The tag of a list of `len` structs of `data` words and `pointers` pointers.
const fn tag(len: u64, data: u64, pointers: u64) -> u64 {
    (pointers << 48) | (data << 32) | (len << 2)
}

#[test]
fn root_pointer() {
    assert_eq!(error(&[&[STRUCT, VERSION]]), None);
    assert_eq!(error(&[&[far(0, 1), STRUCT, VERSION]]), None);
    assert_eq!(error(&[&[far(1, 0)], &[STRUCT, VERSION]]), None);
    // Backwards, as the offset has a sign.
    assert_eq!(error(&[&[far(1, 1)], &[VERSION, BEHIND]]), None);
    assert_eq!(
        error(&[&[double_far(1, 0)], &[far(2, 1), STRUCT], &[0, VERSION]]),
        None
    );

    let bad = Some(Error::BadPointer);
    assert_eq!(error(&[&[0]]), bad);
    assert_eq!(error(&[&[]]), bad);
    assert_eq!(error(&[&[STRUCT]]), bad);
    assert_eq!(error(&[&[STRUCT | (1 << 2), VERSION]]), bad);
    assert_eq!(error(&[&[BEHIND, VERSION]]), bad);
    assert_eq!(error(&[&[list(1), tag(0, 0, 0)]]), bad);
    // A capability.
    assert_eq!(error(&[&[3, VERSION]]), bad);
    // No such segment, no such word, a hop upon a hop.
    assert_eq!(error(&[&[far(1, 0), STRUCT, VERSION]]), bad);
    assert_eq!(error(&[&[far(0, 3), STRUCT, VERSION]]), bad);
    assert_eq!(error(&[&[far(0, 1), far(0, 2), STRUCT, VERSION]]), bad);
    assert_eq!(error(&[&[far(0, 0)]]), bad);
    // A double hop that lands on none, on a double one, on no tag.
    assert_eq!(error(&[&[double_far(1, 0)], &[STRUCT, VERSION]]), bad);
    assert_eq!(
        error(&[
            &[double_far(1, 0)],
            &[double_far(2, 1), STRUCT],
            &[0, VERSION]
        ]),
        bad
    );
    assert_eq!(
        error(&[&[double_far(1, 0)], &[far(2, 1), list(1)], &[0, VERSION]]),
        bad
    );
}

#[test]
fn lists() {
    let with = |words: &[u64]| error(&[&[&[STRUCT_WITH_POINTER, VERSION], words].concat()]);
    let bad = Some(Error::BadPointer);
    assert_eq!(with(&[0]), None);
    assert_eq!(with(&[list(0), tag(0, 0, 1)]), None);
    assert_eq!(with(&[list(2), tag(2, 0, 1), 0, 0]), None);
    // Room to spare, and room missing.
    assert_eq!(with(&[list(3), tag(2, 0, 1), 0, 0, 0]), None);
    assert_eq!(with(&[list(1), tag(2, 0, 1), 0, 0]), bad);
    assert_eq!(with(&[list(3), tag(2, 0, 1), 0, 0]), bad);
    // Elements of no size.
    assert_eq!(with(&[list(0), tag(1, 0, 0)]), bad);
    assert_eq!(with(&[list(0), tag((1 << 30) - 1, 0, 0)]), bad);
    assert_eq!(with(&[list(0), tag((1 << 30) - 1, 0xffff, 0xffff)]), bad);
    // No composite list, no tag, no list.
    assert_eq!(with(&[(1 << 35) | (6 << 32) | 1, 0, 0]), bad);
    assert_eq!(with(&[list(1), tag(1, 0, 1) | 1, 0]), bad);
    assert_eq!(with(&[STRUCT, 0]), bad);
    // Every layer is looked at.
    assert_eq!(with(&[list(2), tag(2, 0, 1), 0, STRUCT, 0]), bad);
}

#[test]
fn segment_table() {
    let mut segments: Vec<&[u64]> = vec![&[STRUCT, VERSION]];
    for count in 1..=limits::MAX_SEGMENTS {
        assert_eq!(error(&segments), None, "{count} segments");
        segments.push(&[]);
    }
    assert_eq!(error(&segments), Some(Error::LimitExceeded));
    let message = message(&[&[STRUCT, VERSION]]);
    let longer = [&message[..], &[0]].concat();
    assert_eq!(Rootfs::parse(&longer).err(), Some(Error::TrailingBytes));
    for len in 0..message.len() {
        assert_eq!(Rootfs::parse(&message[..len]).err(), Some(Error::Truncated));
    }
    let huge = [&[0, 0, 0, 0], &[0xff; 4][..], &[0; 16]].concat();
    assert_eq!(Rootfs::parse(&huge).err(), Some(Error::Truncated));
}

#[test]
fn kinds_of_blobs() {
    let mut segments: Vec<&[u64]> = vec![&[STRUCT, VERSION]];
    for _ in 0..limits::MAX_SEGMENTS {
        assert_eq!(blob_kind(&message(&segments)), Ok(BlobKind::Rootfs));
        segments.push(&[]);
    }
    for json in [
        "{\"schemaVersion\":2}",
        " {\n}",
        "\r\n{}",
        "\n{ }",
        "\t{}\n",
    ] {
        assert_eq!(blob_kind(json.as_bytes()), Ok(BlobKind::Manifest));
    }
    assert_eq!(blob_kind(b"\x7fELF"), Err(Error::UnknownBlob));
    assert_eq!(blob_kind(b"{}"), Ok(BlobKind::Manifest));
    assert_eq!(blob_kind(b""), Err(Error::Truncated));
}
