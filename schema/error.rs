// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! What can be wrong with an image.

use core::fmt;

/// Why bytes are not what FORMAT.md says. Where they lie in the image is the
/// caller's to say: it knows the blob's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before what they announce.
    Truncated,
    /// Bytes follow the end of what they announce.
    TrailingBytes,
    /// A blob begins neither like a manifest nor like a Rootfs.
    UnknownBlob,
    /// A value is over its limit in [`crate::limits`].
    LimitExceeded,
    /// A manifest is not well-formed JSON.
    BadJson,
    /// A manifest's JSON is not that of an OCI image manifest.
    BadManifest,
    /// A manifest has no layer of [`crate::MEDIA_TYPE_ROOTFS`].
    NoRootfs,
    /// A manifest has more than one layer of [`crate::MEDIA_TYPE_ROOTFS`].
    SeveralRootfs,
    /// A digest is not a sha256 one in the form asked for.
    BadDigest,
    /// A Cap'n Proto pointer is malformed or leads out of its segment.
    BadPointer,
    /// An index is past the end of its list.
    OutOfRange,
    /// The `manifestVersion` is not one that this reader knows.
    UnsupportedVersion(u64),
    /// Inode 1 is missing or not a directory.
    NoRootDirectory,
    /// An inode's mode is unknown.
    BadMode,
    /// A modification time has a billion nanoseconds or more.
    BadTime,
    /// An owner or a group is 0xffffffff, which no user has.
    BadOwner,
    /// A device number does not fit 12 bits of major or 20 of minor.
    BadDevice,
    /// A directory entry's name or inode number is not allowed.
    BadDirEntry,
    /// A directory entry says of its inode what that is not, or it is not there.
    BadEntryType,
    /// A symlink's target is missing, empty, or holds a NUL.
    BadSymlink,
    /// An extended attribute's name is empty or holds a NUL.
    BadXattr,
    /// A file chunk has no length, or refers to no blob where holes are unknown.
    BadExtent,
    /// A file's recorded size is not the sum of its chunks.
    SizeMismatch,
    /// A file that is not empty has no recorded size, though its image's version asks for it.
    NoSize,
    /// A block of a Rootfs message is not a chunk of the size that it has to have, or the
    /// message has another version than its blob, or a list of blocks itself.
    BadBlocks,
    /// A zstd seek table is malformed or does not cover its chunk.
    BadSeekTable,
    /// A zstd frame is malformed, or does not fit its seek table.
    BadZstdFrame,
    /// An LZ4 frame is malformed, or not of the form that chunks have.
    BadLz4Frame,
    /// A chunk is compressed by LZ4 in an image whose version has none.
    UnexpectedLz4,
    /// Bytes of a message cannot be had. The code is that of their [`crate::Source`].
    Unreadable(i32),
    /// A pack has no trailer, or its index leads out of it.
    BadPack,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Truncated => "the data ends too early",
            Self::TrailingBytes => "bytes follow the end of the data",
            Self::UnknownBlob => "neither an OCI manifest nor PuzzleFS metadata",
            Self::LimitExceeded => "a size or a count is over its limit",
            Self::BadJson => "the manifest is not well-formed JSON",
            Self::BadManifest => "the JSON is not an OCI image manifest",
            Self::NoRootfs => "the manifest has no PuzzleFS Rootfs layer",
            Self::SeveralRootfs => "the manifest has more than one PuzzleFS Rootfs layer",
            Self::BadDigest => "not a sha256 digest of 64 lower-case hexadecimal digits",
            Self::BadPointer => "the metadata holds a bad pointer",
            Self::OutOfRange => "an index is past the end of its list",
            Self::UnsupportedVersion(version) => {
                return write!(
                    f,
                    "manifest version {version} is not supported (3 to 6 are)"
                )
            }
            Self::NoRootDirectory => "the metadata has no root directory",
            Self::BadMode => "an inode has an unknown type",
            Self::BadTime => "a modification time has too many nanoseconds",
            Self::BadOwner => "an owner or a group is 4294967295, which is nobody's",
            Self::BadDevice => "a device number is out of range",
            Self::BadDirEntry => "a directory entry has a bad name or inode number",
            Self::BadEntryType => "a directory entry has another type than its inode",
            Self::BadSymlink => "a symbolic link has a bad target",
            Self::BadXattr => "an extended attribute has a bad name",
            Self::BadExtent => "a file has a bad chunk reference",
            Self::SizeMismatch => "a file's recorded size is not that of its chunks",
            Self::NoSize => "a file has no recorded size, which images from version 6 on need",
            Self::BadBlocks => {
                "the metadata has a bad list of blocks, or they hold those of another version"
            }
            Self::BadSeekTable => "a compressed chunk has a bad seek table",
            Self::BadZstdFrame => "a compressed chunk has a bad zstd frame",
            Self::BadLz4Frame => "a compressed chunk is a bad LZ4 frame",
            Self::UnexpectedLz4 => {
                "a chunk is compressed by LZ4, which images before version 5 cannot have"
            }
            Self::Unreadable(_) => "a block of the metadata cannot be read",
            Self::BadPack => "not a pack of chunks with an index at its end",
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
