// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! Positions among extents.
//!
//! - Where extents are in order, a position is in the first that ends behind it, and what is said
//!   of the place is true; at the file's end and behind it there is none.
//! - Where they are not, nothing panics, and what is found is one of them.

use libfuzzer_sys::fuzz_target;
use puzzlefs_format::locate;

fuzz_target!(|data: &[u8]| {
    let Some((pos, rest)) = data.split_first_chunk() else {
        return;
    };
    let pos = u64::from_le_bytes(*pos);
    let numbers = rest.chunks_exact(8).map(|number| {
        let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
        number >> (number & 63)
    });
    let mut ends: Vec<u64> = numbers.collect();
    if let Some(found) = locate(&ends, pos) {
        assert!(found.index < ends.len());
    }
    // As a file has them: each is longer than nothing.
    ends.sort_unstable();
    ends.dedup();
    ends.retain(|end| *end > 0);
    let total = ends.last().copied().unwrap_or(0);
    let spread = pos.checked_rem(total.saturating_add(2)).unwrap_or(pos);
    for pos in [pos, spread, total, total.saturating_sub(1)] {
        let index = ends.iter().position(|end| *end > pos);
        let found = locate(&ends, pos);
        assert_eq!(found.map(|found| found.index), index);
        let Some(found) = found else {
            assert!(pos >= total);
            continue;
        };
        let start = found.index.checked_sub(1).map_or(0, |last| ends[last]);
        assert_eq!(start + found.within, pos);
        assert_eq!(pos + found.left, ends[found.index]);
        assert!(found.left > 0);
    }
});
