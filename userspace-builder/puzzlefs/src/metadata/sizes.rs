// SPDX-License-Identifier: Apache-2.0
//! Sizes of the structs of schema/metadata.capnp.

use capnp::traits::HasStructSize;
use puzzlefs_format::Digest;

use super::segment::{bytes, Layout};
use metadata_capnp::{
    blob_ref, chr, dir, dir_entry, file_chunk, inode, inode_additional, inode_vector, rootfs,
    verity_data, xattr,
};

capnp::generated_code!(mod metadata_capnp);

/// As capnpc lays out the struct `T`.
const fn of<T: HasStructSize>() -> Layout {
    Layout {
        data: T::STRUCT_SIZE.data,
        pointers: T::STRUCT_SIZE.pointers,
    }
}

/// The root of a whole message, which has neither of the last two members: blocks, and a root
/// directory beside them.
pub(crate) const ROOTFS: Layout = Layout {
    pointers: of::<rootfs::Builder<'_>>().pointers - 2,
    ..of::<rootfs::Builder<'_>>()
};
/// That of a blob that has blocks. Of the numbers it has the first one only, the version.
pub(crate) const ROOTFS_OF_BLOCKS: Layout = Layout {
    data: 1,
    ..of::<rootfs::Builder<'_>>()
};
pub(crate) const VERITY_DATA: Layout = of::<verity_data::Builder<'_>>();
pub(crate) const INODE_VECTOR: Layout = of::<inode_vector::Builder<'_>>();
pub(crate) const INODE: Layout = of::<inode::Builder<'_>>();
pub(crate) const ADDITIONAL: Layout = of::<inode_additional::Builder<'_>>();
pub(crate) const XATTR: Layout = of::<xattr::Builder<'_>>();
pub(crate) const DEVICE: Layout = of::<chr::Builder<'_>>();
pub(crate) const DIR: Layout = of::<dir::Builder<'_>>();
pub(crate) const DIR_ENTRY: Layout = of::<dir_entry::Builder<'_>>();
pub(crate) const FILE_CHUNK: Layout = of::<file_chunk::Builder<'_>>();
pub(crate) const BLOB_REF: Layout = of::<blob_ref::Builder<'_>>();

/// Words of a digest.
pub(crate) const DIGEST: u64 = bytes(Digest::BYTES);

/// Where the table of digests has the one at `index`.
pub(crate) const fn digest_at(index: u64) -> u64 {
    1 + ROOTFS.words() + DIGEST * index
}
