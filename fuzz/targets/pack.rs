// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A pack: chunks, index, trailer.
//!
//! - The index lies in the pack, right in front of the trailer.
//! - An entry that is accepted lies in front of the index, and is what was written.
//! - In an index that is in order, each digest is found, at an entry that has it, and no other.
//! - In any other, what is found has that digest.

use libfuzzer_sys::fuzz_target;
use puzzlefs_format::{limits, Digest, Error, PackEntry, PackIndex, PackTrailer};

/// The last bytes are a good trailer, often enough.
fn trailer(pack: &[u8]) -> Option<[u8; PackTrailer::BYTES]> {
    let last: &[u8; PackTrailer::BYTES] = pack.last_chunk()?;
    let [0 | 1, count, ..] = *last else {
        return Some(*last);
    };
    Some(PackTrailer::to_bytes(count.into()))
}

fuzz_target!(|pack: &[u8]| {
    let Some(bytes) = trailer(pack) else {
        return;
    };
    let size = pack.len() as u64;
    let Ok(trailer) = PackTrailer::parse(bytes, size) else {
        return;
    };
    assert_eq!(PackTrailer::to_bytes(trailer.count()), bytes);
    assert!(trailer.count() <= limits::MAX_PACK_CHUNKS);
    let start = trailer.index_offset() as usize;
    let end = start + trailer.index_bytes();
    assert_eq!(end + PackTrailer::BYTES, pack.len());
    let index = PackIndex::new(&pack[start..end], &trailer).expect("of that size");
    assert!(PackIndex::new(&pack[start..end + 1], &trailer).is_err());

    let entries: Vec<&[u8]> = pack[start..end].chunks(PackEntry::BYTES).collect();
    assert_eq!(entries.len(), trailer.count() as usize);
    let digest = |entry: &[u8]| Digest::from_bytes(*entry.first_chunk().expect("32 bytes"));
    let is_sorted = entries.is_sorted_by(|a, b| a[..32] < b[..32]);
    for (place, bytes) in (0..).zip(&entries) {
        let entry = index.get(place);
        assert_eq!(index.iter().nth(place as usize), Some(entry));
        if let Ok(entry) = entry {
            assert_eq!(entry.to_bytes()[..], **bytes);
            let end = u64::from(entry.offset) + u64::from(entry.size);
            assert!(end <= trailer.index_offset());
            assert!((1..=limits::MAX_CHUNK_BYTES).contains(&entry.size.into()));
        }
        let found = index.find(&digest(bytes));
        assert!(found == Some(place) || !is_sorted);
        assert!(found.is_none_or(|found| digest(entries[found as usize]) == digest(bytes)));
    }
    assert_eq!(index.get(trailer.count()), Err(Error::Truncated));
    if let Some(wanted) = pack.first_chunk() {
        let wanted = Digest::from_bytes(*wanted);
        let linear = entries.iter().position(|entry| digest(entry) == wanted);
        match index.find(&wanted) {
            Some(found) => assert_eq!(digest(entries[found as usize]), wanted),
            None => assert!(linear.is_none() || !is_sorted),
        }
    }
});
