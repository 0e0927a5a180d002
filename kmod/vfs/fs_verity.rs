// SPDX-License-Identifier: GPL-2.0

//! fs-verity of files that a filesystem reads.
//!
//! C header: `include/linux/fsverity.h`.

use crate::{bindings, lower::LowerFile};

/// What fs-verity says of a file.
pub enum FsVerity {
    /// It is enabled, and this is the file's digest: that of its bytes and of how they are hashed.
    Sha256([u8; 32]),
    /// It is enabled, with digests of another kind.
    Other,
    /// It is not enabled.
    Off,
    /// The kernel was built without it.
    Unknown,
}

impl LowerFile {
    /// What fs-verity says of the file (`fsverity_get_digest`), once and for all: no file loses it
    /// again, nor gets other bytes while it has it. That is said of the file itself: one of an
    /// overlayfs has none, since another may take its place below.
    pub fn fs_verity(&self) -> FsVerity {
        if !cfg!(CONFIG_FS_VERITY) {
            return FsVerity::Unknown;
        }
        let mut digest = [0; bindings::VFS_RS_FS_VERITY_MAX_DIGEST];
        let mut algorithm = 0;
        // SAFETY: The file is open, and with it its fs-verity information was loaded. Both places
        // are writable, that of the digest for the longest that there is.
        let len = unsafe {
            let file = self.as_ptr();
            bindings::vfs_rs_fs_verity_digest(file, digest.as_mut_ptr(), &mut algorithm)
        };
        // A digest means nothing without its algorithm.
        match (len, u32::from(algorithm), digest.first_chunk()) {
            (0, ..) => FsVerity::Off,
            (32, bindings::VFS_RS_FS_VERITY_SHA256, Some(digest)) => FsVerity::Sha256(*digest),
            _ => FsVerity::Other,
        }
    }
}
