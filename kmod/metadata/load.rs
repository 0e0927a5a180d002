// SPDX-License-Identifier: GPL-2.0

//! From the digest that a mount names to the metadata and the packs of an image.

use super::blob::Metadata;
use crate::{
    chunks::{Listed, Packs},
    layout::Blobs,
    report::errno,
};
use kernel::prelude::*;
use puzzlefs_format::{
    self as format, blob_kind, limits, BlobKind, Digest, Manifest, MEDIA_TYPE_PACK,
};
use vfs::Log;

/// Loads the Rootfs that `digest` names, directly or by its manifest, and opens the packs that the
/// manifest lists: these are to be vouched for `by_fs_verity`, or not. Every error is explained in
/// `log`.
///
/// # Errors
///
/// As of [`Blobs::load_any`], [`Packs::open`] and [`Metadata::load`]; `EUCLEAN` for a manifest that
/// is none.
pub(crate) fn load(
    blobs: &Blobs,
    digest: &Digest,
    packs: &mut Packs,
    by_fs_verity: bool,
    log: &Log<'_>,
) -> Result<Metadata> {
    let refuse = |error: format::Error| {
        log.error(format_args!("blob sha256:{digest}: {error}"));
        errno(error)
    };
    let limit = |head: &[u8]| {
        Ok(match blob_kind(head)? {
            BlobKind::Rootfs => limits::MAX_ROOTFS_BYTES,
            BlobKind::Manifest => limits::MAX_MANIFEST_BYTES,
        })
    };
    let bytes = blobs.load_any(digest, limits::MAX_MANIFEST_BYTES, limit, log)?;
    match blob_kind(&bytes).map_err(refuse)? {
        BlobKind::Rootfs => Metadata::new(digest, bytes, log),
        BlobKind::Manifest => {
            let mut listed = KVVec::new();
            let manifest = Manifest::parse_each(&bytes, |layer| {
                if layer.media_type == MEDIA_TYPE_PACK {
                    let pack = Listed {
                        digest: layer.digest,
                        size: layer.size,
                        fs_verity: layer.fs_verity,
                    };
                    let pushed = listed.push(pack, GFP_KERNEL);
                    pushed.map_err(|_| format::Error::Unreadable(ENOMEM.to_errno()))?;
                }
                Ok(())
            })
            .map_err(refuse)?;
            for pack in &listed {
                packs.open(blobs, pack, by_fs_verity, log)?;
            }
            Metadata::load(blobs, &manifest.rootfs().digest, log)
        }
    }
}
