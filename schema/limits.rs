// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Every limit of the format, with its reason. FORMAT.md repeats the numbers.
//!
//! What is over a limit is refused with [`crate::Error::LimitExceeded`], at the
//! latest when it is asked for.

/// Bytes of an OCI manifest. Registries must take 4 MiB (OCI distribution-spec
/// 1.1, "Pushing Manifests"), and few take more: a bigger one could not travel.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// Depth of nested objects and arrays in a manifest. OCI's own nest 5 deep; 64 is
/// what one machine word remembers.
pub const MAX_JSON_DEPTH: u32 = 64;

/// Bytes of a Rootfs message: some 10 million files. The kernel holds it in memory
/// for as long as it is mounted, unless it is in blocks.
pub const MAX_ROOTFS_BYTES: usize = 2 << 30;

/// Bytes of a block of a Rootfs message: what a reader decompresses, and keeps in memory,
/// to look at one inode. It is a whole number of pages on every architecture.
pub const BLOCK_BYTES: u64 = 64 << 10;

/// Segments of a Cap'n Proto message, as in its own C++ implementation. Following
/// a far pointer takes a step for each.
pub const MAX_SEGMENTS: u32 = 512;

/// Metadata vectors of a Rootfs, one for each delta build. Finding an inode takes
/// a search in each.
pub const MAX_LAYERS: u32 = 256;

/// Entries of a directory in which names are looked up one by one, since it is not sorted.
pub const MAX_UNSORTED_ENTRIES: u32 = 1 << 20;

/// Entries of one name that stand for inodes which later layers removed, looked at to find the one
/// that counts. Each layer has one at most.
pub const MAX_REMOVED_ENTRIES: u32 = 1024;

/// Bytes of a file name: `NAME_MAX` of linux/limits.h.
pub const MAX_NAME_BYTES: usize = 255;

/// Entries of a directory. Whether they are sorted is checked in one go.
pub const MAX_DIR_ENTRIES: u32 = 1 << 24;

/// Bytes of a symlink's target: `PATH_MAX` of linux/limits.h less the NUL.
pub const MAX_SYMLINK_BYTES: usize = 4095;

/// Bytes of an extended attribute's name: `XATTR_NAME_MAX` of linux/limits.h.
pub const MAX_XATTR_NAME_BYTES: usize = 255;

/// Bytes of an extended attribute's value: `XATTR_SIZE_MAX` of linux/limits.h.
pub const MAX_XATTR_VALUE_BYTES: usize = 65_536;

/// Extended attributes of an inode: as many as `listxattr(2)` can return within
/// `XATTR_LIST_MAX` (65,536), if each has the shortest name, `user.a` and its NUL.
pub const MAX_XATTRS: u32 = 65_536 / 7;

/// Chunk references of a file: 1 TiB in chunks of 64 KiB. A reader goes through
/// all of them when it opens the file.
pub const MAX_EXTENTS: u32 = 1 << 24;

/// Bytes of a file: what `loff_t` holds (`i64::MAX`).
pub const MAX_FILE_BYTES: u64 = 0x7fff_ffff_ffff_ffff;

/// Bytes of a chunk as stored, and the bytes that come out of it: 1.25 MiB, the largest chunk of
/// those that have 512 KiB on average. A reader verifies a chunk as a whole, so it may have to hold
/// both at once, and the window of a decoder, in memory that nobody can reclaim meanwhile.
pub const MAX_CHUNK_BYTES: u64 = 1280 << 10;

/// Bytes of a pack: offsets in it have 32 bits. Writers make far smaller ones.
pub const MAX_PACK_BYTES: u64 = 0xffff_ffff;

/// Chunks of a pack: an index of 10 MiB. A reader loads it as a whole.
pub const MAX_PACK_CHUNKS: u32 = 1 << 18;

/// Packs of an image: a reader has all of them open at once.
pub const MAX_PACKS: u32 = 4096;

/// Chunks of all packs of an image: 256 GiB in chunks of 64 KiB. A reader keeps the 40 bytes
/// of each that the index of a pack in use has, as long as there is memory.
pub const MAX_PACKED_CHUNKS: u32 = 1 << 22;

/// Chunks of an image's profile: 2 MiB of digests, and 1 GiB of chunks of 16 KiB as stored, more
/// than any program reads before it does its work.
pub const MAX_PROFILE_CHUNKS: u32 = 1 << 16;

/// zstd frames of a chunk: the biggest one in 4 KiB frames, as upstream writes
/// them, and the empty frame that zstd's seekable encoder may end with.
pub const MAX_FRAMES: u32 = (1280 << 10) / 4096 + 1;

/// Largest device major number: 12 bits (`MINORBITS` of linux/kdev_t.h).
pub const MAX_MAJOR: u32 = 0xfff;

/// Largest device minor number: 20 bits (`MINORBITS` of linux/kdev_t.h).
pub const MAX_MINOR: u32 = 0xf_ffff;
