// SPDX-License-Identifier: GPL-2.0

//! A mounted image: what stands behind a superblock.

use crate::{
    blobs::Blobs,
    error::errno,
    metadata::{Blob, Metadata},
    options::Options,
    pack::Packs,
    pool::{Mounted, Pool},
    store::Store,
};
use kernel::{prelude::*, seq_file::SeqFile};
use puzzlefs_format::{self as format, blob_kind, limits, BlobKind, Digest, Manifest};
use vfs::{lower, Log, New, SuperBlock};

/// A mounted image.
pub(crate) struct Image {
    /// The OCI layout, for `show_options` only.
    oci_root_dir: lower::Path,
    /// The digest that was asked for: a manifest's or a Rootfs's.
    image_manifest: Digest,
    /// Its chunks.
    store: Store,
    metadata: Metadata,
    /// The means to read chunks, shared with other mounts.
    pool: Mounted,
}

impl Image {
    /// Opens the image that `options` name. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a missing option; `ENOENT`, `ENOTDIR` and what else a path walk says
    /// of the layout; `ELOOP` if it lies on a PuzzleFS or too deep; `ENODATA` for a blob
    /// that is not there, `EBADMSG` for one with other bytes than its name says, `EFBIG`
    /// for one over the limits; `EUCLEAN` for metadata that is not sound, `EOPNOTSUPP` for
    /// a version that is not known.
    pub(crate) fn open(
        options: Options,
        sb: &SuperBlock<Self, New>,
        log: &Log<'_>,
    ) -> Result<Pin<KBox<Self>>> {
        let missing = |name: &str| {
            log.error(fmt!("the option {name} is missing"));
            EINVAL
        };
        let dir = options
            .oci_root_dir
            .ok_or_else(|| missing("oci_root_dir=DIRECTORY"))?;
        let image_manifest = options
            .image_manifest
            .ok_or_else(|| missing("image_manifest=DIGEST"))?;

        let oci_root_dir = lower::Path::directory(&dir).inspect_err(|error| {
            log.error(fmt!("oci_root_dir {}: {error:?}", &*dir));
        })?;
        let blobs = Self::blobs_directory(&dir).inspect_err(|error| {
            log.error(fmt!(
                "oci_root_dir {} is not an OCI layout: blobs/sha256: {error:?}",
                &*dir
            ));
        })?;
        sb.stack_on(&blobs).inspect_err(|_| {
            log.error(fmt!(
                "oci_root_dir {}: a PuzzleFS cannot lie on this filesystem: it is one itself, or \
                 stacked too deep",
                &*dir
            ));
        })?;

        let blobs = Blobs::new(blobs);
        let (rootfs, packs) = Self::load(&blobs, &image_manifest, log)?;
        let store = Store::new(blobs, packs, rootfs.version())?;
        Ok(KBox::pin(
            Self {
                oci_root_dir,
                image_manifest,
                metadata: Metadata::new(rootfs, &store, log)?,
                store,
                pool: Pool::mount(sb.shared()),
            },
            GFP_KERNEL,
        )?)
    }

    /// Refuses options that would make this another image.
    ///
    /// # Errors
    ///
    /// `EINVAL` for those, and what a path walk says of the layout.
    pub(crate) fn check_remount(&self, options: &Options, log: &Log<'_>) -> Result {
        let is_same_dir = match &options.oci_root_dir {
            Some(dir) => lower::Path::directory(dir)? == self.oci_root_dir,
            None => true,
        };
        let manifest = options.image_manifest.unwrap_or(self.image_manifest);
        if !is_same_dir || manifest != self.image_manifest {
            log.error(format_args!(
                "a remount cannot change oci_root_dir or image_manifest: mount the other image"
            ));
            return Err(EINVAL);
        }
        Ok(())
    }

    /// `DIR/blobs/sha256`, by one path walk: a symbolic link on the way, an absolute one
    /// too, leads where it leads for the one who mounts.
    fn blobs_directory(dir: &CStr) -> Result<lower::Path> {
        let mut name = KVec::new();
        name.extend_from_slice(dir.to_bytes(), GFP_KERNEL)?;
        name.extend_from_slice(b"/blobs/sha256\0", GFP_KERNEL)?;
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| EINVAL)?;
        lower::Path::directory(name)
    }

    /// Loads the Rootfs that `digest` names, directly or by its manifest, and opens the
    /// packs that the manifest lists.
    fn load(blobs: &Blobs, digest: &Digest, log: &Log<'_>) -> Result<(Blob, Packs)> {
        let refuse = |error: format::Error| {
            log.error(format_args!("blob sha256:{digest}: {error}"));
            errno(error)
        };
        let bytes = blobs.load(digest, limits::MAX_ROOTFS_BYTES, log)?;
        match blob_kind(&bytes).map_err(refuse)? {
            BlobKind::Rootfs => Ok((Blob::new(digest, bytes, log)?, Packs::default())),
            BlobKind::Manifest => {
                let manifest = Manifest::parse(&bytes).map_err(refuse)?;
                let rootfs = Blob::load(blobs, &manifest.rootfs().digest, log)?;
                Ok((rootfs, Packs::open(blobs, &manifest, log)?))
            }
        }
    }

    /// Its metadata, to be read by a [`crate::metadata::Reader`].
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its chunks.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The means to read chunks.
    pub(crate) fn pool(&self) -> &Mounted {
        &self.pool
    }

    /// Shows the options so that a mount with them gives this image again.
    pub(crate) fn show_options(&self, seq: &SeqFile) {
        seq.call_printf(format_args!(",oci_root_dir="));
        self.oci_root_dir.show(seq, c", \t\n\\");
        seq.call_printf(format_args!(",image_manifest={}", self.image_manifest));
    }
}
