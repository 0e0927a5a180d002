// SPDX-License-Identifier: GPL-2.0

//! A mounted image without a kernel: what the room `mount` makes of the rooms below it, and what
//! the VFS and the page cache do with them.

use crate::{
    chunks::{Chunks, Indexes, Packs},
    content::{Content, Pool},
    filling,
    inode::{self, dir, InodeData, Node, OpenFile},
    layout::Blobs,
    metadata::{self, Access, Metadata, Reader},
    report::{errno, logged, Counters, Faults, Purpose},
    sharing::{DomainId, Filesystems, Sharing},
};
use kernel::{init::PinInit, prelude::*, sync::Arc};
use puzzlefs_format::Digest;
use vfs::{
    lower::{Credentials, Layout},
    Attributes, DirEmitter, DirEntryType, Fingerprint, InodeKind, KernelLog, Lines, Log, PageCache,
    PrivateCache, ReadWindow, SeekTo, SharedCaches, XattrLister,
};

/// What all mounts share (`mount::Shared`).
pub struct Machine {
    pool: Arc<Pool>,
    indexes: Arc<Indexes>,
    filesystems: Filesystems,
    caches: Arc<SharedCaches>,
}

impl Machine {
    /// What there is of it before the first mount.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pool: Pool::new()?,
            indexes: Indexes::new()?,
            filesystems: Filesystems::new()?,
            caches: Arc::new(SharedCaches::default(), GFP_KERNEL)?,
        })
    }

    /// Takes back slots that mounts share, and indexes of packs.
    pub fn shrink(&self, pages: usize) -> usize {
        let slots = vfs::Shrink::shrink(&*self.pool, pages);
        slots + vfs::Shrink::shrink(&*self.indexes, pages)
    }

    /// Page caches that mounts share.
    pub fn shared_caches(&self) -> usize {
        self.caches.count()
    }
}

/// What a mount asks for, beside the image (`mount::Request`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The domain, if it is in one.
    pub domain: Option<&'a str>,
    /// Whether fs-verity is to vouch for packs.
    pub by_fs_verity: bool,
}

/// A mounted image (`mount::Image`).
pub struct Image {
    metadata: Metadata,
    pub(crate) content: Content,
    sharing: Sharing,
    cache: PrivateCache,
    caches: Arc<SharedCaches>,
    lines: Lines,
}

impl Image {
    /// Mounts the image that `digest` names, a Rootfs or a manifest (`mount::Loaded::new`). What users are told goes to `lines`.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn mount(
        machine: &Machine,
        layout: &Layout,
        digest: &[u8; 32],
        request: Request<'_>,
        lines: &Lines,
    ) -> Result<Self> {
        let log = Log(lines);
        let filesystem = machine.filesystems.number(&layout.path())?;
        let blobs = Blobs::new(layout.directory(), Credentials::current());
        let mut packs = Packs::new(machine.indexes.clone());
        let digest = Digest::from_bytes(*digest);
        let by_fs_verity = request.by_fs_verity;
        let metadata = metadata::load(&blobs, &digest, &mut packs, by_fs_verity, &log)?;
        let faults = Faults::new(KernelLog::new(lines)?);
        let chunks = Chunks::new(blobs, packs, metadata.version(), faults)?;
        let domain = request
            .domain
            .and_then(|name| DomainId::new(name.as_bytes()));
        Ok(Self {
            metadata,
            content: Content::new(chunks, Pool::mount(&machine.pool)?),
            sharing: Sharing::new(filesystem, domain),
            cache: PrivateCache::new(),
            caches: machine.caches.clone(),
            lines: lines.clone(),
        })
    }

    /// What users were told, since this was asked for last.
    pub fn lines(&self) -> Vec<String> {
        self.lines.take()
    }

    pub(crate) fn access(&self) -> Access<'_> {
        Access {
            metadata: &self.metadata,
            content: &self.content,
            cache: &self.cache,
        }
    }

    pub(crate) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    pub(crate) fn caches(&self) -> &Arc<SharedCaches> {
        &self.caches
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.content.chunks().counters()
    }

    /// Chunks that were verified.
    pub fn chunks_verified(&self) -> u64 {
        self.counters().chunks_verified.get()
    }

    /// From a failure of inode `ino` to its errno.
    fn in_inode<F: Into<crate::report::Failure>>(
        &self,
        ino: u64,
    ) -> impl FnOnce(F) -> Error + use<'_, F> {
        logged(self.content.chunks().faults(), Purpose::Inode(ino))
    }

    /// The number of the root directory (`FileSystem::root`).
    ///
    /// # Errors
    ///
    /// `EUCLEAN` when it is not sound.
    pub fn root(&self) -> Result<u64> {
        if let Some(root) = self.metadata.root().map_err(errno)? {
            return Ok(root.ino());
        }
        let reader = Reader::new(self.access());
        let root = reader.rootfs().and_then(|rootfs| rootfs.root());
        Ok(root.map_err(errno)?.ino())
    }

    /// Inode `ino`, as the VFS has it (`FileSystem::inode`).
    ///
    /// # Errors
    ///
    /// `ESTALE` when there is none, `EUCLEAN` when it is not sound.
    pub fn inode(&self, ino: u64) -> Result<Inode<'_>> {
        let kind = inode::by_number(self.access(), ino, |inode| {
            let attributes = inode::attributes(self.access(), &inode, 0);
            let attributes = attributes.map_err(self.in_inode(ino))?;
            Ok(Kind::of(&attributes))
        });
        Ok(Inode {
            image: self,
            ino,
            kind: kind.map_err(self.in_inode(ino))?,
            data: InodeData::new().make()?,
        })
    }
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file of so many bytes.
    File(u64),
    /// A symbolic link to there.
    Symlink(Vec<u8>),
    /// Anything else.
    Other,
}

impl Kind {
    fn of(attributes: &Attributes<'_>) -> Self {
        match attributes.kind {
            InodeKind::Directory => Self::Dir,
            InodeKind::Regular => Self::File(attributes.size),
            InodeKind::Symlink(target) => Self::Symlink(target.to_vec()),
            _ => Self::Other,
        }
    }
}

/// An inode in memory.
pub struct Inode<'a> {
    image: &'a Image,
    ino: u64,
    kind: Kind,
    data: InodeData,
}

/// An entry of a directory: name, inode, type.
pub type Entry = (Vec<u8>, u64, DirEntryType);

impl Inode<'_> {
    fn node(&self) -> Node<'_> {
        Node {
            ino: self.ino,
            data: &self.data,
            access: self.image.access(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Up to `room` entries from `position` on (`FileSystem::iterate`), and where the next begin.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn entries(&self, position: u64, room: usize) -> Result<(Vec<Entry>, u64)> {
        let mut entries = Vec::new();
        let mut emitter = DirEmitter::new(position, room, &mut entries);
        dir::iterate(&self.node(), &mut emitter).map_err(self.image.in_inode(self.ino))?;
        let next = emitter.position();
        Ok((entries, next))
    }

    /// The number of the inode that `name` is (`FileSystem::lookup`).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn lookup(&self, name: &[u8]) -> Result<Option<u64>> {
        let found = dir::lookup(&self.node(), name, |inode| Ok(inode.ino()));
        found.map_err(self.image.in_inode(self.ino))
    }

    /// The names of its extended attributes (`FileSystem::list_xattrs`).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let listed = inode::xattr::list(&self.node(), &mut XattrLister(&mut names));
        listed.map_err(self.image.in_inode(self.ino))?;
        Ok(names)
    }

    /// Opens it, a file (`FileSystem::open`).
    ///
    /// # Errors
    ///
    /// As there; `EINVAL` when it is no file.
    pub fn open(&self) -> Result<File<'_>> {
        let Kind::File(size) = self.kind else {
            return Err(EINVAL);
        };
        let mut content = None;
        let share = |fingerprint: &Fingerprint| {
            content = Some(*fingerprint);
            Ok(())
        };
        let sharing = self.image.sharing();
        let open = match self.data.kept() {
            Some(_) => None,
            None => inode::open(&self.node(), size, sharing, false, share)
                .map_err(self.image.in_inode(self.ino))?,
        };
        Ok(File {
            inode: self,
            size,
            open,
            content,
        })
    }
}

/// An open file.
pub struct File<'a> {
    inode: &'a Inode<'a>,
    size: u64,
    /// None if it is kept with the inode.
    open: Option<Arc<OpenFile>>,
    content: Option<Fingerprint>,
}

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// How much is read ahead, in bytes; 0 for no more than a folio at a time.
    pub window: u64,
    /// Which sizes folios have.
    pub seed: u64,
}

impl File<'_> {
    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it has in it, if it may share its page cache.
    pub fn content(&self) -> Option<Fingerprint> {
        self.content
    }

    /// How many extents it has, if these are in memory.
    pub fn extents(&self) -> Option<usize> {
        Some(self.opened().extents().all()?.len())
    }

    /// Whether it is one of those that are read from the page cache of their chunk.
    pub fn is_small(&self) -> bool {
        filling::small(self.opened().extents()).is_some()
    }

    pub(crate) fn opened(&self) -> &OpenFile {
        let kept = || self.inode.data.kept().expect("it is kept, or it is open");
        self.open.as_deref().unwrap_or_else(kept)
    }

    fn filling(&self) -> filling::File<'_> {
        let image = self.inode.image;
        filling::File {
            ino: self.inode.ino,
            extents: self.opened().extents(),
            access: image.access(),
            sharing: image.sharing(),
            caches: image.caches(),
        }
    }

    /// Fills `window`.
    ///
    /// # Errors
    ///
    /// As of `FileSystem::read`.
    pub fn fill(&self, window: &mut ReadWindow<'_>) -> Result {
        self.filling().read(window)
    }

    /// Reads `len` bytes from `position` on through `pages`, which are its page cache
    /// (`filemap_read`). Returns those in front of the first that cannot be had, and why it cannot.
    pub fn read(
        &self,
        pages: &mut PageCache,
        position: u64,
        len: u64,
        how: How,
    ) -> (Vec<u8>, Result) {
        let end = position.saturating_add(len).min(self.size);
        let mut bytes = Vec::new();
        let mut ahead = None;
        loop {
            let at = position + bytes.len() as u64;
            if at >= end {
                return (bytes, Ok(()));
            }
            if let Some(found) = pages.get(at) {
                let len = found.len().min((end - at) as usize);
                bytes.extend_from_slice(&found[..len]);
                continue;
            }
            if ahead != Some(at) && how.window > 0 {
                ahead = Some(at);
                // No folio begins behind the end of the file.
                let window = how.window.min(self.size - at);
                if let Some(mut window) = pages.readahead(at, window, how.seed ^ at) {
                    // Folios that are not up to date then are read again.
                    let _ = self.fill(&mut window);
                }
                continue;
            }
            let mut window = pages.folio(at);
            if let Err(error) = self.fill(&mut window) {
                return (bytes, Err(error));
            }
            drop(window);
            assert!(pages.get(at).is_some(), "nothing was filled at {at}");
        }
    }

    /// Reads `len` bytes from `position` on as read(2) does of a file that has no pages, if they can
    /// be had from the page cache of their chunk (`FileSystem::copy_shared`). Returns what was
    /// copied, and whether that is all.
    pub fn copy_shared(&self, position: u64, len: u64) -> (Vec<u8>, Result<bool>) {
        let len = len.min(self.size.saturating_sub(position));
        let mut bytes = Vec::new();
        let copy = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let all = self.filling().copy_shared(position, len as usize, copy);
        (bytes, all)
    }

    /// Where `what` comes next (`FileSystem::seek`).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn seek(&self, position: u64, what: SeekTo) -> Result<u64> {
        let (image, ino) = (self.inode.image, self.inode.ino);
        let found = self
            .opened()
            .extents()
            .seek(image.access(), ino, position, what);
        found.map_err(image.in_inode(ino))
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            inode::release(&self.inode.node(), open);
        }
    }
}
