// SPDX-License-Identifier: Apache-2.0
//! Sizes of the structs of schema/metadata.capnp.

use puzzlefs_format::Digest;

use super::segment::{bytes, Layout};

// Structs of the schema, as capnp lays them out (`capnp compile -ocapnp`).
pub(crate) const ROOTFS: Layout = Layout {
    data: 3,
    pointers: 2,
};
pub(crate) const VERITY_DATA: Layout = Layout {
    data: 0,
    pointers: 2,
};
pub(crate) const INODE_VECTOR: Layout = Layout {
    data: 0,
    pointers: 1,
};
pub(crate) const INODE: Layout = Layout {
    data: 6,
    pointers: 2,
};
pub(crate) const ADDITIONAL: Layout = Layout {
    data: 0,
    pointers: 2,
};
pub(crate) const XATTR: Layout = Layout {
    data: 0,
    pointers: 2,
};
pub(crate) const DEVICE: Layout = Layout {
    data: 2,
    pointers: 0,
};
pub(crate) const DIR: Layout = Layout {
    data: 1,
    pointers: 1,
};
pub(crate) const DIR_ENTRY: Layout = Layout {
    data: 1,
    pointers: 1,
};
pub(crate) const FILE_CHUNK: Layout = Layout {
    data: 1,
    pointers: 1,
};
pub(crate) const BLOB_REF: Layout = Layout {
    data: 2,
    pointers: 1,
};

/// Words of a digest.
pub(crate) const DIGEST: u64 = bytes(Digest::BYTES);

/// Where the table of digests has the one at `index`.
pub(crate) const fn digest_at(index: u64) -> u64 {
    1 + ROOTFS.words() + DIGEST * index
}
