// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! The arithmetic of pointers and lists, against the same in numbers that cannot overflow.
//!
//! Every small value is tried with every other one, and so is every value near to a power of
//! two. Kani would prove it of all values, but neither Kani nor Miri can be had for the
//! compiler of Debian 13. Overflows panic here, since tests are built with debug assertions.

use super::{bytes_of, size, Pointer, Segment, WORD};
use crate::capnp::List;
use crate::source::Bytes;

/// Small numbers, and those near to each power of two up to `max`.
fn edges(max: i128) -> impl Iterator<Item = i128> + Clone {
    let near = (5..65).flat_map(|bit| (-2..3).map(move |by| (1 << bit) + by));
    (0..20)
        .chain(near)
        .chain([max - 1, max])
        .filter(move |n| *n <= max)
}

/// `exact`, if memory can hold so much.
fn in_memory(exact: i128) -> Option<usize> {
    usize::try_from(exact).ok()
}

#[test]
fn pointers_lead_where_their_offset_says() {
    let offsets = edges((1 << 29) - 1).flat_map(|n| [n, -n - 1]);
    for offset in offsets {
        for kind in 0..4 {
            let low = u32::try_from(((offset << 2) | kind) & 0xffff_ffff).expect("32 bits");
            let pointer = Pointer { low, high: 0 };
            for at in edges(i128::from(u64::MAX)) {
                let exact = in_memory(at + 8 + 8 * offset);
                let at = usize::try_from(at).expect("64 bits");
                // What does not fit on the way to it does not lie in a segment, either.
                let expected = exact.filter(|_| at.checked_add(WORD).is_some());
                assert_eq!(pointer.target(at), expected, "{offset} from {at}");
            }
        }
    }
}

#[test]
fn far_pointers_lead_where_they_say() {
    for words in edges((1 << 29) - 1) {
        for kind in 0..8 {
            let low = u32::try_from((words << 3) | kind).expect("32 bits");
            let pointer = Pointer { low, high: 0 };
            assert_eq!(pointer.landing(), in_memory(words * 8));
        }
    }
}

#[test]
fn elements_of_lists_begin_one_after_another() {
    for data in edges(0xffff) {
        for pointers in edges(0xffff) {
            let list = List {
                segment: Segment::EMPTY,
                first: 0,
                len: 0,
                element: (
                    u16::try_from(data).expect("16 bits"),
                    u16::try_from(pointers).expect("16 bits"),
                ),
            };
            for index in edges(0xffff_ffff) {
                let exact = in_memory(index * (data + pointers) * 8);
                let index = u32::try_from(index).expect("32 bits");
                assert_eq!(
                    list.offset(index),
                    exact,
                    "{index} of {data} and {pointers}"
                );
            }
        }
    }
}

#[test]
fn segments_have_no_byte_behind_their_end() {
    const BYTES: [u8; 48] = [0; 48];
    for start in [0, 8, 16] {
        for len in 0..17 {
            let segment = Segment::at((start, len), Bytes::in_memory(&BYTES));
            for at in edges(i128::from(u64::MAX)) {
                for count in edges(i128::from(u64::MAX)) {
                    let is_inside = at + count <= i128::try_from(len).expect("small");
                    let at = usize::try_from(at).expect("64 bits");
                    let count = usize::try_from(count).expect("64 bits");
                    assert_eq!(segment.check(at, count).is_ok(), is_inside);
                    if at < 40 && count < 40 {
                        let found = { segment }.get(at, count).map(<[u8]>::len);
                        assert_eq!(found.ok(), is_inside.then_some(count));
                    }
                }
            }
        }
    }
}

#[test]
fn words_have_eight_bytes() {
    for words in edges(i128::from(u64::MAX)) {
        let exact = in_memory(words * 8);
        assert_eq!(bytes_of(usize::try_from(words).expect("64 bits")), exact);
    }
    for n in edges(0xffff_ffff) {
        assert_eq!(in_memory(n), Some(size(u32::try_from(n).expect("32 bits"))));
    }
}
