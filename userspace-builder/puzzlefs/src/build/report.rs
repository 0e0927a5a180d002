// SPDX-License-Identifier: Apache-2.0
//! What a build reports.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use crate::base::digest::hex;
use crate::tree::scan::{self, Reason};

/// What was built.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Digest of the manifest, in hexadecimal.
    pub manifest: String,
    /// fs-verity digest of the manifest, in hexadecimal: what upstream's `mount -d` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_verity: Option<String>,
    /// Digest of the Rootfs, in hexadecimal.
    pub rootfs: String,
    /// Inodes.
    pub inodes: u64,
    /// Bytes of all files.
    pub data_bytes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Their bytes, as stored.
    pub chunk_bytes: u64,
    /// Packs that hold chunks of the image, and maybe others.
    pub packs: u64,
    /// Bytes of the metadata: the Rootfs message.
    pub message_bytes: u64,
    /// As stored: of the Rootfs, and of blocks of it.
    pub metadata_bytes: u64,
    /// Blobs that the layout did not have before.
    pub new_blobs: u64,
    /// Bytes of those.
    pub new_bytes: u64,
    /// How often a file was read: what was there in the last build of the tree is not read again.
    pub files_read: u64,
    /// Chunks that were compressed: what the layout has is not compressed again.
    pub chunks_compressed: u64,
    /// Mounts that are not in the image.
    pub left_out: Vec<LeftOut>,
    /// Extended attributes that are not in the image, by name: how many inodes have them.
    pub left_out_xattrs: BTreeMap<String, u64>,
    /// Names that were to be left out. What is in a directory of these is not counted.
    pub excluded: u64,
}

/// A mount that is not in the image.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Where it is: the path in the image; where it is not UTF-8, with replacement characters.
    pub path: String,
    /// The path's bytes.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// The path's bytes in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// Why.
    pub reason: String,
}

/// The mounts that a scan left out.
pub fn mounts(left_out: &scan::LeftOut) -> Vec<LeftOut> {
    let mount = |(path, reason): &(std::path::PathBuf, Reason)| {
        let bytes = [b"/", path.as_os_str().as_bytes()].concat();
        LeftOut {
            path: String::from_utf8_lossy(&bytes).into_owned(),
            path_hex: std::str::from_utf8(&bytes).is_err().then(|| hex(&bytes)),
            reason: match reason {
                Reason::OtherMount => "another mount".into(),
                Reason::KernelState(name) => format!("{name}: state of the kernel"),
            },
            bytes,
        }
    };
    left_out.mounts.iter().map(mount).collect()
}

/// The extended attributes that were left out.
pub fn xattrs(left_out: &BTreeMap<Vec<u8>, u64>) -> BTreeMap<String, u64> {
    let mut named = BTreeMap::new();
    for (name, count) in left_out {
        *named
            .entry(String::from_utf8_lossy(name).into_owned())
            .or_default() += count;
    }
    named
}
