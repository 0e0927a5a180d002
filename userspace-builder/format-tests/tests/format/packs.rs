// SPDX-License-Identifier: Apache-2.0

//! Indexes of packs: what a search finds is what is there, and of an index that lies no
//! entry is accepted that leads out of the chunks.

use std::collections::BTreeMap;

use format_tests::config;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use puzzlefs_format::limits::{MAX_CHUNK_BYTES, MAX_PACK_BYTES, MAX_PACK_CHUNKS};
use puzzlefs_format::{Digest, Error, PackEntry, PackIndex, PackTrailer};

/// Bytes of chunks in front of the indexes here.
const CHUNKS: u32 = 1 << 20;

/// What a pack holds: digests, with where they are.
type Places = BTreeMap<[u8; 32], (u32, u32)>;

fn places() -> impl Strategy<Value = Places> {
    // Digests with much in common, too.
    let digest = (any::<[u8; 32]>(), 0..32usize).prop_map(|(mut digest, zeros)| {
        digest[..zeros].fill(0);
        digest
    });
    btree_map(digest, (0..CHUNKS / 2, 1..CHUNKS / 2), 0..40)
}

fn entries(places: &Places) -> Vec<PackEntry> {
    let entry = |(digest, &(offset, size)): (&[u8; 32], &(u32, u32))| PackEntry {
        digest: Digest::from_bytes(*digest),
        offset,
        size,
    };
    places.iter().map(entry).collect()
}

fn index_of(entries: &[PackEntry]) -> Vec<u8> {
    entries.iter().flat_map(PackEntry::to_bytes).collect()
}

fn trailer(index: &[u8]) -> PackTrailer {
    let count = u32::try_from(index.len() / PackEntry::BYTES).unwrap();
    let size = u64::from(CHUNKS) + index.len() as u64 + PackTrailer::BYTES as u64;
    PackTrailer::parse(PackTrailer::to_bytes(count), size).unwrap()
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn found(places in places(), others in vec(any::<[u8; 32]>(), 0..9)) {
        let entries = entries(&places);
        let bytes = index_of(&entries);
        let index = PackIndex::new(&bytes, &trailer(&bytes)).unwrap();
        prop_assert_eq!(index.iter().collect::<Result<Vec<_>, _>>().unwrap(), entries.clone());
        for (place, entry) in (0..).zip(&entries) {
            prop_assert_eq!(index.find(&entry.digest), Some(place));
            prop_assert_eq!(index.get(place), Ok(*entry));
        }
        for other in others.iter().filter(|other| !places.contains_key(*other)) {
            prop_assert_eq!(index.find(&Digest::from_bytes(*other)), None);
        }
        prop_assert!(index.get(u32::try_from(entries.len()).unwrap()).is_err());
        prop_assert!(index.get(u32::MAX).is_err());
    }

    #[test]
    fn lies(bytes in vec(any::<u8>(), 0..2000), digest: [u8; 32]) {
        let bytes = &bytes[..bytes.len() / PackEntry::BYTES * PackEntry::BYTES];
        let index = PackIndex::new(bytes, &trailer(bytes)).unwrap();
        let digest = Digest::from_bytes(digest);
        if let Some(Ok(entry)) = index.find(&digest).map(|place| index.get(place)) {
            prop_assert_eq!(entry.digest, digest);
        }
        for entry in index.iter().flatten() {
            let (offset, size) = (u64::from(entry.offset), u64::from(entry.size));
            prop_assert!(size > 0 && size <= MAX_CHUNK_BYTES && offset + size <= CHUNKS.into());
            // Not in order, it need not be found; but nothing else is.
            if let Some(place) = index.find(&entry.digest) {
                prop_assert!(bytes[PackEntry::BYTES * place as usize..].starts_with(entry.digest.as_bytes()));
            }
        }
    }
}

#[test]
fn trailers() {
    let parse = |count, size| PackTrailer::parse(PackTrailer::to_bytes(count), size);
    assert_eq!(parse(1, 48).map(|trailer| trailer.index_offset()), Ok(0));
    assert_eq!(parse(1, 47), Err(Error::BadPack));
    assert_eq!(parse(0, 8).map(|trailer| trailer.index_bytes()), Ok(0));
    assert_eq!(
        parse(MAX_PACK_CHUNKS + 1, MAX_PACK_BYTES),
        Err(Error::LimitExceeded)
    );
    assert_eq!(parse(1, MAX_PACK_BYTES + 1), Err(Error::LimitExceeded));
    assert_eq!(
        PackTrailer::parse(*b"\x01\0\0\0PzPl", 99),
        Err(Error::BadPack)
    );
}
