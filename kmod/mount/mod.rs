// SPDX-License-Identifier: GPL-2.0

//! A mounted image: what stands behind a superblock.

use crate::{
    chunks::{Chunks, Indexes, Packs},
    content::{Content, Pool},
    filling::File,
    inode::{Node, OpenFile},
    layout::{self, Blobs},
    metadata::{self, Access, Metadata},
    report::Faults,
    sharing::{FilesystemNumber, Filesystems, Sharing},
};
use kernel::{prelude::*, sync::Arc};
use options::Verify;
use request::Request;
use vfs::{Inode, KernelLog, Log, Mounting, New, Shrinker, SuperBlock};

pub(crate) mod attributes;
pub(crate) mod options;
pub(crate) mod request;

/// What all mounts share.
pub(crate) struct Shared {
    pool: Arc<Pool>,
    indexes: Arc<Indexes>,
    _shrinkers: (Shrinker<Pool>, Shrinker<Indexes>),
    filesystems: Filesystems,
}

impl Shared {
    /// What there is of it before the first mount.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let pool = Pool::new()?;
        let indexes = Indexes::new()?;
        let slots = Shrinker::new(c"puzzlefs-slots", pool.clone())?;
        let of_packs = Shrinker::new(c"puzzlefs-indexes", indexes.clone())?;
        Ok(Self {
            pool,
            indexes,
            _shrinkers: (slots, of_packs),
            filesystems: Filesystems::new()?,
        })
    }
}

/// What is read of an image before it is mounted, while nobody waits for it.
pub(crate) struct Unmounted {
    filesystem: FilesystemNumber,
    blobs: Blobs,
    packs: Packs,
    metadata: Metadata,
}

impl Unmounted {
    /// Loads the image that `request` names. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `ELOOP` if the layout lies on a PuzzleFS, on an EROFS over a file, or too deep;
    /// `ENODATA` for a blob that is not there, `EBADMSG` for one with other bytes than its name
    /// says, `EFBIG` for one over the limits; `EUCLEAN` for metadata that is not sound,
    /// `EOPNOTSUPP` for a version that is not known, `EINTR` when the task was killed; by
    /// `verify=fsverity` those of [`Packs::open`].
    pub(crate) fn new(
        request: &Request,
        mounting: &mut Mounting<'_, Image>,
        log: &Log<'_>,
    ) -> Result<Self> {
        let directory = mounting.lower(request.blobs().clone()).inspect_err(|_| {
            log.error(format_args!(
                "oci_root_dir: it is stacked too deep, or {}",
                layout::NESTED
            ));
        })?;
        let shared = mounting.shared();
        let filesystem = shared.filesystems.number(directory.path())?;
        let blobs = Blobs::new(directory, request.credentials().clone());
        let mut packs = Packs::new(shared.indexes.clone());
        let by_fs_verity = request.verify() == Verify::FsVerity;
        let digest = request.image_manifest();
        let metadata = metadata::load(&blobs, digest, &mut packs, by_fs_verity, log)?;
        Ok(Self {
            filesystem,
            blobs,
            packs,
            metadata,
        })
    }
}

/// A mounted image.
pub(crate) struct Image {
    metadata: Metadata,
    /// Its chunks.
    content: Content,
    /// What it has in common with other images.
    sharing: Sharing,
}

impl Image {
    /// Mounts what was read, for `sb`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(unmounted: Unmounted, sb: &SuperBlock<Self, New>) -> Result<Pin<KBox<Self>>> {
        let Unmounted {
            filesystem,
            blobs,
            packs,
            metadata,
        } = unmounted;
        let faults = Faults::new(KernelLog::new(sb)?);
        let chunks = Chunks::new(blobs, packs, metadata.version(), faults)?;
        let image = Self {
            metadata,
            content: Content::new(chunks, Pool::mount(&sb.shared().pool)?),
            sharing: Sharing::new(filesystem, sb.identity().domain_id()),
        };
        Ok(KBox::pin(image, GFP_KERNEL)?)
    }

    /// Its metadata.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its chunks.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// What it has in common with other images.
    pub(crate) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// How the metadata of `sb` are read.
    pub(crate) fn access(sb: &SuperBlock<Self>) -> Access<'_> {
        Access {
            metadata: &sb.data().metadata,
            content: &sb.data().content,
            cache: sb.metadata_cache(),
        }
    }

    /// What the operations of `inode` are about.
    pub(crate) fn node(inode: &Inode<Self>) -> Node<'_> {
        Node {
            ino: inode.ino(),
            data: inode.data(),
            access: Self::access(inode.super_block()),
        }
    }

    /// `open`, which is the file of `inode`, to be read.
    pub(crate) fn file<'a>(inode: &'a Inode<Self>, open: &'a OpenFile) -> File<'a> {
        let sb = inode.super_block();
        File {
            ino: inode.ino(),
            extents: open.extents(),
            access: Self::access(sb),
            sharing: &sb.data().sharing,
            caches: sb.shared_caches(),
        }
    }
}
