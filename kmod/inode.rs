// SPDX-License-Identifier: GPL-2.0

//! From inodes of the metadata to inodes of the VFS.

use crate::{
    error::{logged, Failure},
    faults::Purpose,
    file::{OpenFile, Opens},
    image::Image,
    metadata::Reader,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex, SetOnce,
    },
};
use puzzlefs_format::{self as format, limits, Device, DirPlace, FileType, Kind};
use vfs::{Attributes, DirEntryType, Iget, Inode, InodeKind, InodeRef, SuperBlock};

const UNKNOWN: u32 = 0;
const SORTED: u32 = 1;
const UNSORTED: u32 = 2;

/// Files of more extents are taken as if they had no holes by `st_blocks`: that is no reason to
/// read much of the metadata whenever one is looked up.
const MAX_EXTENTS_FOR_HOLES: u32 = 64;

/// What this filesystem keeps with an inode in memory.
#[pin_data]
pub(crate) struct InodeData {
    /// Of a directory: where its entries are, once that is known.
    entries: SetOnce<DirPlace>,
    /// Of a directory: whether its entries are sorted, once that is known.
    order: Atomic<u32>,
    /// Of a directory: the entry behind the one that was looked up last. Whoever looks up
    /// all that it has read there asks for that one next.
    next: Atomic<u32>,
    /// Of a regular file: where its data is, once that is known and as long as this lives.
    kept: SetOnce<KBox<OpenFile>>,
    /// Of a regular file that is not kept so: its open files.
    #[pin]
    pub(crate) opens: Mutex<Opens>,
}

impl InodeData {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries: SetOnce::new(),
            order: Atomic::new(UNKNOWN),
            next: Atomic::new(0),
            kept: SetOnce::new(),
            opens <- new_mutex!(Opens::default()),
        })
    }

    /// The file, if it is kept.
    pub(crate) fn kept(&self) -> Option<&OpenFile> {
        self.kept.as_ref().map(|file| &**file)
    }

    /// Keeps the file. Only for who holds the lock of `opens`.
    pub(crate) fn keep(&self, file: KBox<OpenFile>) {
        self.kept.populate(file);
    }

    /// Of a directory: where its entries are, which `find` finds out once.
    pub(crate) fn entries<E>(
        &self,
        find: impl FnOnce() -> Result<DirPlace, E>,
    ) -> Result<DirPlace, E> {
        if let Some(entries) = self.entries.copy() {
            return Ok(entries);
        }
        let entries = find()?;
        // Whoever else looks at the same time finds the same.
        self.entries.populate(entries);
        Ok(entries)
    }

    /// Of a directory: the entry that is probably looked up next.
    pub(crate) fn next(&self) -> u32 {
        self.next.load(Relaxed)
    }

    /// Of a directory: says that entry `index` was looked up.
    pub(crate) fn found(&self, index: u32) {
        self.next.store(index.saturating_add(1), Relaxed);
    }

    /// Of a directory: whether its entries are sorted, which `check` finds out once.
    pub(crate) fn is_sorted<E>(&self, check: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        match self.order.load(Relaxed) {
            SORTED => Ok(true),
            UNSORTED => Ok(false),
            _ => {
                let sorted = check()?;
                // Whoever else checks at the same time finds the same.
                self.order
                    .store(if sorted { SORTED } else { UNSORTED }, Relaxed);
                Ok(sorted)
            }
        }
    }
}

/// The VFS inode of `inode`.
///
/// # Errors
///
/// `EUCLEAN` when its metadata is not sound, which is logged; `ENOMEM`.
pub(crate) fn get<'a>(
    sb: &'a SuperBlock<Image>,
    inode: format::Inode<'_>,
) -> Result<InodeRef<'a, Image>> {
    // First: whoever else wants the inode waits for a new one until it is filled, and cannot be
    // killed meanwhile. Metadata may take long to read.
    let attributes = attributes(sb, &inode);
    let attributes = attributes.map_err(logged(sb.data(), Purpose::Inode(inode.ino())))?;
    let new = match sb.iget(inode.ino())? {
        Iget::Found(inode) => return Ok(inode),
        Iget::New(new) => new,
    };
    let init = new.init(&attributes, InodeData::new());
    init.inspect_err(|error| {
        if *error == EOVERFLOW {
            log_owner(sb, inode.ino(), &attributes);
        }
    })
}

/// Says of whose owner the user namespace of the mount knows nothing.
#[cold]
fn log_owner(sb: &SuperBlock<Image>, ino: u64, attributes: &Attributes<'_>) {
    let (uid, gid) = (attributes.uid, attributes.gid);
    sb.data().store().faults().log_metadata(
        Purpose::Inode(ino),
        format_args!("its owner {uid}:{gid} has no id where it is mounted"),
    );
}

fn attributes<'a>(
    sb: &SuperBlock<Image>,
    inode: &format::Inode<'a>,
) -> Result<Attributes<'a>, format::Error> {
    let content = Content::of(inode)?;
    let mtime = inode.mtime();
    Ok(Attributes {
        kind: content.kind,
        permissions: inode.permissions(),
        uid: inode.uid(),
        gid: inode.gid(),
        generation: sb.identity().generation(),
        acl: inode.may_have_xattrs()?,
        nlink: inode.nlink().unwrap_or(1),
        size: content.size,
        holes: content.holes,
        time_sec: mtime.sec,
        time_nsec: mtime.nsec,
    })
}

/// What is in an inode.
struct Content<'a> {
    kind: InodeKind<'a>,
    size: u64,
    /// How many bytes of that are in holes.
    holes: u64,
}

impl<'a> Content<'a> {
    fn new(kind: InodeKind<'a>, size: u64) -> Self {
        Self {
            kind,
            size,
            holes: 0,
        }
    }

    fn of(inode: &format::Inode<'a>) -> Result<Self, format::Error> {
        // Of most files all is known without a look at their extents, and of directories
        // without one at their entries.
        match inode.recorded_size() {
            Some(size) if inode.file_type() == FileType::File && !inode.may_have_holes() => {
                return Ok(Self::new(InodeKind::Regular, size));
            }
            Some(len) if inode.file_type() == FileType::Dir => {
                let len = len.min(limits::MAX_DIR_ENTRIES.into());
                return Ok(Self::new(InodeKind::Directory, len));
            }
            _ => {}
        }
        Ok(match inode.kind()? {
            Kind::Fifo => Self::new(InodeKind::Fifo, 0),
            Kind::Sock => Self::new(InodeKind::Socket, 0),
            Kind::Chr(Device { major, minor }) => Self::new(InodeKind::CharDevice(major, minor), 0),
            Kind::Blk(Device { major, minor }) => {
                Self::new(InodeKind::BlockDevice(major, minor), 0)
            }
            Kind::Dir(dir) => Self::new(InodeKind::Directory, dir.len().into()),
            Kind::File(extents) => {
                // Proved when the file is opened.
                let size = match extents.recorded() {
                    Some(size) => size,
                    None => extents.total()?,
                };
                let holes = match extents.len() {
                    0..=MAX_EXTENTS_FOR_HOLES => extents.holes()?,
                    _ => 0,
                };
                Self {
                    holes,
                    ..Self::new(InodeKind::Regular, size)
                }
            }
            Kind::Symlink(target) => Self::new(InodeKind::Symlink(target), target.len() as u64),
        })
    }
}

/// The inode with number `ino`, for a file handle.
///
/// # Errors
///
/// `ESTALE` when there is none; else as [`get`].
pub(crate) fn by_number(sb: &SuperBlock<Image>, ino: u64) -> Result<InodeRef<'_, Image>, Failure> {
    let reader = Reader::new(sb);
    let inode = reader.rootfs()?.inode(ino)?;
    Ok(get(sb, inode.ok_or(ESTALE)?)?)
}

/// The directory that `dir` is in.
///
/// # Errors
///
/// `ESTALE` when that is not recorded, or is not a directory; else as [`get`].
pub(crate) fn parent(dir: &Inode<Image>) -> Result<InodeRef<'_, Image>, Failure> {
    let sb = dir.super_block();
    let reader = Reader::new(sb);
    let parent = reader.inode(dir.ino())?.parent().ok_or(ESTALE)?;
    let parent = reader.rootfs()?.inode(parent.into())?;
    let is_directory = |inode: &format::Inode<'_>| inode.file_type() == FileType::Dir;
    Ok(get(sb, parent.filter(is_directory).ok_or(ESTALE)?)?)
}

/// The type that `readdir(3)` shows for an inode.
pub(crate) fn dir_entry_type(file_type: FileType) -> DirEntryType {
    match file_type {
        FileType::Fifo => DirEntryType::Fifo,
        FileType::Chr => DirEntryType::CharDevice,
        FileType::Dir => DirEntryType::Directory,
        FileType::Blk => DirEntryType::BlockDevice,
        FileType::File => DirEntryType::Regular,
        FileType::Symlink => DirEntryType::Symlink,
        FileType::Sock => DirEntryType::Socket,
    }
}
