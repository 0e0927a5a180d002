// SPDX-License-Identifier: Apache-2.0

//! Valid metadata in every layout: both readers see the same.

use format_tests::agree::{agree, Expect};
use format_tests::model;
use format_tests::relocate::relocate;
use proptest::prelude::*;

/// More words than any message here has.
const ONE_SEGMENT: u32 = 1 << 16;

proptest! {
    #![proptest_config(format_tests::config(300))]

    #[test]
    fn one_segment(rootfs in model::rootfs()) {
        let inodes = rootfs.vectors.iter().flatten().count();
        prop_assert_eq!(agree(&rootfs.write(ONE_SEGMENT), Expect::Valid), inodes);
    }

    #[test]
    fn many_segments(rootfs in model::rootfs(), segment_words in 1..40u32) {
        let inodes = rootfs.vectors.iter().flatten().count();
        prop_assert_eq!(agree(&rootfs.write(segment_words), Expect::Valid), inodes);
    }

    #[test]
    fn relocated(rootfs in model::rootfs(), segments in 1..20usize, seed: u64) {
        let inodes = rootfs.vectors.iter().flatten().count();
        let message = relocate(&rootfs.write(ONE_SEGMENT), segments, seed);
        prop_assert_eq!(agree(&message, Expect::Valid), inodes);
    }

    /// An address that is no multiple of anything.
    #[test]
    fn unaligned(rootfs in model::rootfs()) {
        let message = rootfs.write(ONE_SEGMENT);
        let moved = [&[0][..], &message].concat();
        let aligned = puzzlefs_format::Rootfs::parse(&message).unwrap();
        let unaligned = puzzlefs_format::Rootfs::parse(&moved[1..]).unwrap();
        for ino in 1..13 {
            let facts = |rootfs: &puzzlefs_format::Rootfs<'_>| {
                rootfs.inode(ino).unwrap().map(|inode| (inode.uid(), inode.mtime()))
            };
            prop_assert_eq!(facts(&aligned), facts(&unaligned));
        }
    }
}
