// SPDX-License-Identifier: GPL-2.0

//! A mounted image: what stands behind a superblock.

use crate::{
    blobs::{self, Blobs},
    error::errno,
    faults::Faults,
    fingerprint::Filesystems,
    index::Indexes,
    metadata::Metadata,
    pack::Packs,
    pool::{Mounted, Pool},
    request::Request,
    store::Store,
};
use kernel::{prelude::*, sync::Arc};
use puzzlefs_format::{
    self as format, blob_kind, limits, BlobKind, Digest, Manifest, MEDIA_TYPE_PACK,
};
use vfs::{KernelLog, Log, New, SuperBlock};

/// What all mounts share.
pub(crate) struct Shared {
    pool: Arc<Pool>,
    indexes: Arc<Indexes>,
    filesystems: Filesystems,
}

impl Shared {
    /// What there is of it before the first mount.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            pool: Pool::new()?,
            indexes: Indexes::new()?,
            filesystems: Filesystems::new()?,
        })
    }
}

/// A mounted image.
pub(crate) struct Image {
    metadata: Metadata,
    /// Its chunks.
    store: Store,
    /// The means to read chunks, shared with other mounts.
    pool: Mounted,
}

impl Image {
    /// Opens the image that `request` names. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `ELOOP` if the layout lies on a PuzzleFS, on an EROFS over a file, or too deep;
    /// `ENODATA` for a blob that is not there, `EBADMSG` for one with other bytes than its name
    /// says, `EFBIG` for one over the limits; `EUCLEAN` for metadata that is not sound,
    /// `EOPNOTSUPP` for a version that is not known.
    pub(crate) fn open(
        request: &Request,
        sb: &SuperBlock<Self, New>,
        log: &Log<'_>,
    ) -> Result<Pin<KBox<Self>>> {
        let directory = sb.stack_on(request.blobs().clone()).inspect_err(|_| {
            log.error(format_args!(
                "oci_root_dir: it is stacked too deep, or {}",
                blobs::NESTED
            ));
        })?;
        let filesystem = sb.shared().filesystems.number(directory.path())?;
        let blobs = Blobs::new(directory, request.credentials().clone());
        let mut packs = Packs::new(sb.shared().indexes.clone());
        let metadata = Self::load(&blobs, request.image_manifest(), &mut packs, log)?;
        let faults = Faults::new(KernelLog::new(sb)?);
        let store = Store::new(filesystem, blobs, packs, metadata.version(), faults)?;
        Ok(KBox::pin(
            Self {
                metadata,
                store,
                pool: sb.shared().pool.mount(),
            },
            GFP_KERNEL,
        )?)
    }

    /// Loads the Rootfs that `digest` names, directly or by its manifest, and opens the
    /// packs that the manifest lists.
    fn load(blobs: &Blobs, digest: &Digest, packs: &mut Packs, log: &Log<'_>) -> Result<Metadata> {
        let refuse = |error: format::Error| {
            log.error(format_args!("blob sha256:{digest}: {error}"));
            errno(error)
        };
        let bytes = blobs.load(digest, limits::MAX_ROOTFS_BYTES, log)?;
        match blob_kind(&bytes).map_err(refuse)? {
            BlobKind::Rootfs => Metadata::new(digest, bytes, log),
            BlobKind::Manifest => {
                let mut listed = KVVec::new();
                let manifest = Manifest::parse_each(&bytes, |layer| {
                    if layer.media_type == MEDIA_TYPE_PACK {
                        let pack = (layer.digest, layer.size);
                        let pushed = listed.push(pack, GFP_KERNEL);
                        pushed.map_err(|_| format::Error::Unreadable(ENOMEM.to_errno()))?;
                    }
                    Ok(())
                })
                .map_err(refuse)?;
                for (digest, size) in &listed {
                    packs.open(blobs, digest, *size, log)?;
                }
                Metadata::load(blobs, &manifest.rootfs().digest, log)
            }
        }
    }

    /// Its metadata, to be read by a [`crate::metadata::Reader`].
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether the metadata is in blocks, and these are loose.
    pub(crate) fn has_loose_metadata(&self) -> bool {
        self.metadata.is_in_blocks() && !self.store.has_packs()
    }

    /// Its chunks.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The means to read chunks.
    pub(crate) fn pool(&self) -> &Mounted {
        &self.pool
    }
}
