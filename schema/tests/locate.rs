// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Positions in files.

use puzzlefs_format::{locate, Located};

#[test]
fn every_position() {
    let lens = [3, 1, 4, 1, 5];
    let mut ends = Vec::new();
    let mut expected = Vec::new();
    for (index, len) in lens.into_iter().enumerate() {
        ends.push(ends.last().unwrap_or(&0) + len);
        expected.extend((0..len).map(|within| Located {
            index,
            within,
            left: len - within,
        }));
    }
    for (pos, located) in (0..).zip(expected) {
        assert_eq!(locate(&ends, pos), Some(located));
    }
    assert_eq!(locate(&ends, 14), None);
    assert_eq!(locate(&ends, u64::MAX), None);
    assert_eq!(locate(&[], 0), None);
}
