// SPDX-License-Identifier: Apache-2.0
//! An image as a filesystem: its names and inodes, as the kernel's module has them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use puzzlefs_format::{
    limits, xattr_is_shown, Device, Dir, FileType, Inode, Kind, Rootfs, ROOT_INO,
};
use rustix::io::Errno;

use super::content::Contents;
use super::failure::Failure;
use super::faults::{Faults, Log};
use super::filesystem::{Answer, Attributes, Bytes, Entry, Filesystem, SeekTo, Statistics};
use super::source::{ChunkSource, LayoutSource};
use crate::image::Image;
use crate::lazy::Patience;

/// Files of more extents are taken as if they had no holes by `st_blocks`, as by the module.
const MAX_EXTENTS_FOR_HOLES: u32 = 64;
/// Directories of which is remembered whether they are sorted; those that say so are not looked at.
const MAX_ORDERS: usize = 1 << 16;
/// Entries that a listing passes over, as they are removed, before it gives up. A writer of ours leaves
/// none, upstream's one for each removed name.
const MAX_PASSED: u32 = 1 << 16;

/// An image that is served.
pub struct ImageTree<'a> {
    image: &'a Image,
    contents: Contents<'a>,
    faults: Faults,
    /// Of directories that do not say so: whether they are sorted.
    orders: RwLock<HashMap<u64, bool>>,
    /// What statfs(2) says, once somebody asked.
    statistics: Mutex<Option<Statistics>>,
}

impl<'a> ImageTree<'a> {
    /// `image`, whose chunks come from its layout. What is wrong with it goes to `log`, in lines that
    /// begin with `name`.
    ///
    /// # Errors
    ///
    /// A pack that is missing or cut short.
    pub fn new(image: &'a Image, name: &str, log: Log) -> crate::Result<Self> {
        let source = LayoutSource::new(image.sound_places()?)?;
        Self::with_source(image, Box::new(source), name, log)
    }

    /// The same, with chunks from elsewhere.
    pub fn with_source(
        image: &'a Image,
        source: Box<dyn ChunkSource + 'a>,
        name: &str,
        log: Log,
    ) -> crate::Result<Self> {
        let version = image.rootfs()?.version();
        // What has no root directory is not mounted.
        image.rootfs()?.root()?;
        Ok(ImageTree {
            image,
            contents: Contents::new(source, version),
            faults: Faults::new(name.to_owned(), log),
            orders: RwLock::default(),
            statistics: Mutex::default(),
        })
    }

    /// Calls `look` with the metadata. What is not sound there is logged as of inode `ino`.
    fn look<T>(&self, ino: u64, look: impl FnOnce(&Rootfs<'_>) -> Result<T, Failure>) -> Answer<T> {
        let rootfs = self.image.rootfs().map_err(|error| {
            self.faults.of_inode(ino, format_args!("{error:#}"));
            Errno::IO
        })?;
        look(&rootfs).map_err(|failure| match failure {
            Failure::Errno(errno) => errno,
            Failure::Format(error) => {
                self.faults.of_inode(ino, error);
                match error {
                    puzzlefs_format::Error::Unreadable(_) => Errno::IO,
                    _ => Errno::UCLEAN,
                }
            }
        })
    }

    /// Whether `dir`, which is inode `ino`, is sorted. That it says so is believed.
    fn is_sorted(&self, ino: u64, dir: &Dir<'_>) -> Result<bool, Failure> {
        if dir.says_sorted() {
            return Ok(true);
        }
        let known = self.orders.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sorted) = known.get(&ino) {
            return Ok(*sorted);
        }
        drop(known);
        let sorted = dir.is_sorted()?;
        let mut orders = self.orders.write().unwrap_or_else(PoisonError::into_inner);
        if orders.len() == MAX_ORDERS {
            orders.clear();
        }
        orders.insert(ino, sorted);
        Ok(sorted)
    }

    /// What `name` is in directory `ino`.
    fn find<'r>(
        &self,
        rootfs: &Rootfs<'r>,
        ino: u64,
        name: &[u8],
    ) -> Result<Option<Inode<'r>>, Failure> {
        let dir = directory(rootfs, ino)?;
        if self.is_sorted(ino, &dir)? {
            let found = rootfs.lookup_sorted(&dir, name, dir.len())?;
            return Ok(found.map(|(_, inode)| inode));
        }
        if dir.len() > limits::MAX_UNSORTED_ENTRIES {
            return Err(Errno::FBIG.into());
        }
        const BATCH: u32 = 256;
        let (mut start, mut removed) = (0u32, 0);
        while start < dir.len() {
            let end = start.saturating_add(BATCH).min(dir.len());
            let found = rootfs.lookup_in(&dir, name, start..end, &mut removed)?;
            if removed > limits::MAX_REMOVED_ENTRIES {
                return Err(Errno::FBIG.into());
            }
            if found.is_some() {
                return Ok(found);
            }
            start = end;
        }
        Ok(None)
    }
}

/// Inode `ino`.
fn inode<'r>(rootfs: &Rootfs<'r>, ino: u64) -> Result<Inode<'r>, Failure> {
    Ok(rootfs.inode(ino)?.ok_or(Errno::STALE)?)
}

fn directory<'r>(rootfs: &Rootfs<'r>, ino: u64) -> Result<Dir<'r>, Failure> {
    match inode(rootfs, ino)?.kind()? {
        Kind::Dir(dir) => Ok(dir),
        _ => Err(Errno::NOTDIR.into()),
    }
}

/// What stat(2) shows of `inode`: what the kernel's module shows.
fn attributes(inode: &Inode<'_>) -> Result<Attributes, Failure> {
    let mut device = (0, 0);
    let (mut size, mut holes) = (0, 0);
    let recorded = inode.recorded_size();
    match inode.file_type() {
        FileType::File if !inode.may_have_holes() && recorded.is_some() => {
            size = recorded.unwrap_or_default();
        }
        FileType::Dir if recorded.is_some() => {
            size = recorded
                .unwrap_or_default()
                .min(limits::MAX_DIR_ENTRIES.into());
        }
        _ => match inode.kind()? {
            Kind::Fifo | Kind::Sock => {}
            Kind::Chr(Device { major, minor }) | Kind::Blk(Device { major, minor }) => {
                device = (major, minor);
            }
            Kind::Dir(dir) => size = dir.len().into(),
            Kind::Symlink(target) => size = target.len() as u64,
            Kind::File(extents) => {
                size = match extents.recorded() {
                    Some(size) => size,
                    None => extents.total()?,
                };
                if extents.len() <= MAX_EXTENTS_FOR_HOLES {
                    holes = extents.holes()?;
                }
            }
        },
    }
    Ok(Attributes {
        ino: inode.ino(),
        file_type: inode.file_type(),
        permissions: inode.permissions(),
        nlink: inode.nlink().unwrap_or(1),
        uid: inode.uid(),
        gid: inode.gid(),
        device,
        size,
        blocks: size.saturating_sub(holes).div_ceil(512),
        time: inode.mtime(),
    })
}

/// Whether the kernel answers for names like this on any filesystem (xattr(7)).
fn is_in_namespace(name: &[u8]) -> bool {
    let namespaces: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    let acls: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
    namespaces.iter().any(|n| name.starts_with(n)) || acls.contains(&name)
}

impl Filesystem for ImageTree<'_> {
    fn generation(&self) -> u32 {
        let [.., a, b, c, d] = *self.image.manifest_digest().as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn lookup(&self, dir: u64, name: &[u8]) -> Answer<Option<Attributes>> {
        let found = self.look(dir, |rootfs| {
            let found = self.find(rootfs, dir, name)?;
            Ok(found.map(|inode| inode.ino()))
        })?;
        // What is wrong with the inode is logged as its own.
        found.map(|ino| self.attributes(ino)).transpose()
    }

    fn attributes(&self, ino: u64) -> Answer<Attributes> {
        self.look(ino, |rootfs| attributes(&inode(rootfs, ino)?))
    }

    fn parent(&self, dir: u64) -> Answer<Attributes> {
        self.look(dir, |rootfs| {
            let parent = match dir {
                ROOT_INO => ROOT_INO,
                _ => u64::from(inode(rootfs, dir)?.parent().ok_or(Errno::STALE)?),
            };
            let parent = inode(rootfs, parent)?;
            match parent.file_type() {
                FileType::Dir => attributes(&parent),
                _ => Err(Errno::STALE.into()),
            }
        })
    }

    fn list(
        &self,
        dir: u64,
        from: u64,
        with_attributes: bool,
        each: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Answer<()> {
        self.look(dir, |rootfs| {
            let entries = directory(rootfs, dir)?;
            let Some(mut index) = u32::try_from(from).ok().filter(|i| *i < entries.len()) else {
                return Ok(());
            };
            let mut listing = entries.listing(index);
            let mut passed = 0;
            while let Some(entry) = listing.next_entry()? {
                index = index.saturating_add(1);
                let mut found = None;
                if with_attributes || entry.file_type.is_none() {
                    found = rootfs.inode(entry.ino).transpose();
                }
                let file_type = match (entry.file_type, &found) {
                    (Some(file_type), _) => file_type,
                    (None, Some(Ok(inode))) => inode.file_type(),
                    (None, Some(Err(error))) => return Err((*error).into()),
                    (None, None) => {
                        // Removed by a later layer.
                        passed += 1;
                        if passed > MAX_PASSED {
                            return Err(Errno::FBIG.into());
                        }
                        continue;
                    }
                };
                // One that is not sound is listed all the same; whoever looks at it hears of it.
                let of_inode = |inode: Inode<'_>| {
                    let fits = inode.file_type() == file_type;
                    attributes(&inode).ok().filter(|_| fits)
                };
                let attributes = found.and_then(Result::ok).and_then(of_inode);
                let entry = Entry {
                    ino: entry.ino,
                    name: entry.name,
                    file_type,
                    next: index.into(),
                    attributes: attributes.filter(|_| with_attributes),
                };
                if !each(&entry) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn link_target(&self, ino: u64) -> Answer<Vec<u8>> {
        self.look(ino, |rootfs| match inode(rootfs, ino)?.kind()? {
            Kind::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::INVAL.into()),
        })
    }

    fn read(&self, ino: u64, offset: u64, len: usize, patience: &Patience<'_>) -> Answer<Bytes> {
        self.look(ino, |rootfs| match inode(rootfs, ino)?.kind()? {
            Kind::File(extents) => {
                let wanted = (offset, len, patience);
                self.contents.read(&self.faults, ino, &extents, wanted)
            }
            _ => Err(Errno::INVAL.into()),
        })
    }

    fn seek(&self, ino: u64, offset: u64, to: SeekTo) -> Answer<u64> {
        self.look(ino, |rootfs| match inode(rootfs, ino)?.kind()? {
            Kind::File(extents) => self.contents.seek(ino, &extents, offset, to),
            _ => Err(Errno::INVAL.into()),
        })
    }

    fn xattr(&self, ino: u64, name: &[u8]) -> Answer<Vec<u8>> {
        if !is_in_namespace(name) {
            return Err(Errno::OPNOTSUPP);
        }
        self.look(ino, |rootfs| {
            let inode = inode(rootfs, ino)?;
            if !xattr_is_shown(name, inode.file_type()) {
                return Err(Errno::NODATA.into());
            }
            let value = inode.xattrs()?.find(name)?;
            Ok(value.ok_or(Errno::NODATA)?.to_vec())
        })
    }

    fn xattr_names(&self, ino: u64, trusted: bool) -> Answer<Vec<u8>> {
        self.look(ino, |rootfs| {
            let inode = inode(rootfs, ino)?;
            let xattrs = inode.xattrs()?;
            let mut names = Vec::new();
            for index in 0..xattrs.len() {
                let name = xattrs.name(index)?;
                let is_hidden = !trusted && name.starts_with(b"trusted.");
                if is_hidden || !xattr_is_shown(name, inode.file_type()) {
                    continue;
                }
                names.extend_from_slice(name);
                names.push(0);
                // XATTR_LIST_MAX of linux/limits.h.
                if names.len() > 65_536 {
                    return Err(Errno::TOOBIG.into());
                }
            }
            Ok(names)
        })
    }

    fn statistics(&self) -> Answer<Statistics> {
        let mut known = self
            .statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *known {
            return Ok(known);
        }
        let found = self.look(ROOT_INO, |rootfs| {
            Ok(Statistics {
                bytes: rootfs.data_size(),
                inodes: rootfs.inode_count()?,
            })
        })?;
        Ok(*known.insert(found))
    }
}
