// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Packs, byte by byte.

use puzzlefs_format::{limits, Digest, Error, PackEntry, PackIndex, PackTrailer};

fn entry(name: u8, offset: u32, size: u32) -> PackEntry {
    PackEntry {
        digest: Digest::from_bytes([name; 32]),
        offset,
        size,
    }
}

fn parse(index: &[u8], count: u32, pack_bytes: u64) -> Result<Vec<PackEntry>, Error> {
    let trailer = PackTrailer::parse(PackTrailer::to_bytes(count), pack_bytes)?;
    PackIndex::new(index, &trailer)?.iter().collect()
}

#[test]
fn an_index_reads_as_it_was_written() {
    let entries = [entry(1, 0, 10), entry(2, 10, 90)];
    let index = entries.map(|entry| entry.to_bytes()).concat();
    assert_eq!(index.len(), 80);
    assert_eq!(index[..32], [1; 32]);
    assert_eq!(index[32..40], [0, 0, 0, 0, 10, 0, 0, 0]);
    assert_eq!(index[72..80], [10, 0, 0, 0, 90, 0, 0, 0]);
    assert_eq!(PackTrailer::to_bytes(2), *b"\x02\0\0\0PzPk");

    let trailer = PackTrailer::parse(PackTrailer::to_bytes(2), 188).unwrap();
    assert_eq!(trailer.count(), 2);
    assert_eq!(trailer.index_offset(), 100);
    assert_eq!(trailer.index_bytes(), 80);
    assert_eq!(parse(&index, 2, 188), Ok(entries.to_vec()));
    // The last chunk reaches into the index.
    assert_eq!(parse(&index, 2, 187), Err(Error::BadPack));
    assert_eq!(parse(&index[1..], 2, 188), Err(Error::Truncated));
}

#[test]
fn a_pack_must_be_one() {
    assert_eq!(PackTrailer::parse(*b"\0\0\0\0PzPl", 8), Err(Error::BadPack));
    assert_eq!(parse(&[], 0, 8), Ok(vec![]));
    assert_eq!(parse(&[], 0, 7), Err(Error::BadPack));
    assert_eq!(parse(&[0; 40], 1, 47), Err(Error::BadPack));
    // No chunk is empty, or larger than chunks may be.
    let of_size = |size| parse(&entry(1, 0, size).to_bytes(), 1, limits::MAX_PACK_BYTES);
    let max = u32::try_from(limits::MAX_CHUNK_BYTES).unwrap();
    assert!(of_size(max).is_ok());
    assert_eq!(of_size(max + 1), Err(Error::BadPack));
    assert_eq!(of_size(0), Err(Error::BadPack));
    // The end does not wrap.
    let wraps = entry(1, u32::MAX, 2).to_bytes();
    assert_eq!(parse(&wraps, 1, 60), Err(Error::BadPack));
}

#[test]
fn limits_hold() {
    let trailer = |count, bytes| PackTrailer::parse(PackTrailer::to_bytes(count), bytes);
    let (bytes, chunks) = (limits::MAX_PACK_BYTES, limits::MAX_PACK_CHUNKS);
    assert!(trailer(chunks, bytes).is_ok());
    assert_eq!(trailer(chunks + 1, bytes), Err(Error::LimitExceeded));
    assert_eq!(trailer(chunks, bytes + 1), Err(Error::LimitExceeded));
    assert_eq!(trailer(u32::MAX, bytes), Err(Error::LimitExceeded));
}
