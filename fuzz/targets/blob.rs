// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A Rootfs blob, which may say only where the message is.
//!
//! - It is a whole message exactly if the reader of those takes it, or has blocks: then that
//!   reader refuses it.
//! - Blocks are whole chunks of 64 KiB but for the last, which may be shorter; their sum is
//!   the total, within its limit.
//! - The copy of the root is a directory, with its size.

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use puzzlefs_format::{limits, Error, FileType, Rootfs, RootfsBlob, ROOT_INO, VERSION_BLOCKS};
use puzzlefs_fuzz::words;

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    words::mutate(data, size, max, seed)
});

fuzz_target!(|message: &[u8]| {
    let whole = Rootfs::parse(message);
    let blocks = match RootfsBlob::parse(message) {
        Err(error) => {
            let other = whole.err().expect("both refuse it");
            return assert!(other == error || other == Error::BadBlocks);
        }
        Ok(RootfsBlob::Whole(rootfs)) => {
            return assert_eq!(whole.map(|w| w.version()), Ok(rootfs.version()));
        }
        Ok(RootfsBlob::Blocks(blocks)) => blocks,
    };
    assert_eq!(whole.err(), Some(Error::BadBlocks));
    assert!(blocks.version() >= VERSION_BLOCKS && blocks.len() > 0);
    assert!(blocks.len() as usize * 8 <= message.len());
    assert!(blocks.total() <= limits::MAX_ROOTFS_BYTES as u64);
    let mut sum = 0;
    let mut is_sound = true;
    for (index, block) in (0..).zip(blocks.iter()) {
        let Ok(block) = block else {
            is_sound = false;
            continue;
        };
        assert_eq!(block.chunk.offset, 0);
        let is_last = index + 1 == blocks.len();
        assert!(block.len == limits::BLOCK_BYTES || is_last && block.len < limits::BLOCK_BYTES);
        sum += block.len;
    }
    assert!(sum == blocks.total() || !is_sound);
    assert_eq!(blocks.get(blocks.len()).err(), Some(Error::OutOfRange));
    if let Ok(Some(root)) = blocks.root() {
        assert_eq!((root.ino(), root.file_type()), (ROOT_INO, FileType::Dir));
        assert!(root.recorded_size().is_some());
        let _ = root.may_have_xattrs();
    }
});
