// SPDX-License-Identifier: Apache-2.0
//! A directory of which nothing is trusted that lies in it. A name leads to what lies there, and
//! to nothing else, whoever has made it: so a link is not followed, a FIFO holds nobody up, and
//! what is written is a new file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::beneath;

/// A directory, open as a place. All names are those of its entries, without a slash.
#[derive(Debug)]
pub struct Dir(OwnedFd);

const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// The directory that the user has named: links on the way are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Dir(rustix::fs::open(path, PLACE, Mode::empty())?))
    }

    /// A directory that is open already.
    pub fn from(dir: &OwnedFd) -> io::Result<Self> {
        dir.try_clone().map(Dir)
    }

    /// The same directory, for somebody else.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Dir)
    }

    /// The directory `name`, which may be a link to one that lies elsewhere.
    pub fn linked(&self, name: &str) -> io::Result<Self> {
        Ok(Dir(rustix::fs::openat(
            &self.0,
            name,
            PLACE,
            Mode::empty(),
        )?))
    }

    /// The directory `name`.
    pub fn subdir(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = Path::new(name.as_ref());
        Ok(Dir(beneath::open(&self.0, name, PLACE)?))
    }

    /// The regular file `name`, to be read.
    ///
    /// # Errors
    ///
    /// `ELOOP` for a symbolic link, `EXDEV` for a mount point, `EINVAL` for what else is no
    /// regular file: what the kernel's module does not read either.
    pub fn file(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDONLY)
    }

    /// The same, to be read and written. Errors as [`Dir::file`]'s.
    pub fn file_to_fill(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OFlags::RDWR)
    }

    fn open_file(&self, name: &str, access: OFlags) -> io::Result<File> {
        // To open a device has effects.
        is_regular(&self.status(name)?)?;
        let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = beneath::RESOLVE | ResolveFlags::NO_XDEV;
        let file = rustix::fs::openat2(&self.0, name, flags, Mode::empty(), resolve)?;
        // Another file may have come into its place.
        is_regular(&rustix::fs::fstat(&file)?)?;
        Ok(file.into())
    }

    /// A new file, to be written.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is anything of this name, a link to nowhere too.
    pub fn create(&self, name: &str) -> io::Result<File> {
        self.new_file(name, OFlags::WRONLY, 0o666)
    }

    /// A new file, to be written and read again by nobody else. Errors as [`Dir::create`]'s.
    pub fn create_both(&self, name: &str) -> io::Result<File> {
        self.new_file(name, OFlags::RDWR, 0o600)
    }

    fn new_file(&self, name: &str, access: OFlags, mode: u32) -> io::Result<File> {
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?;
        Ok(file.into())
    }

    /// Makes the directory `name`.
    pub fn make(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(
            &self.0,
            name,
            Mode::from_raw_mode(0o777),
        )?)
    }

    /// What is there, a link itself.
    pub fn status(&self, name: impl AsRef<OsStr>) -> io::Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::statat(&self.0, name.as_ref(), flags)?)
    }

    /// Whether anything is there, a link to nowhere too.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        match self.status(name) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a name that is no directory.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.0,
            name.as_ref(),
            AtFlags::empty(),
        )?)
    }

    /// Removes the directory `name` and the files in it.
    pub fn remove_flat(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let dir = self.subdir(name.as_ref())?;
        for name in dir.names()? {
            match dir.remove(name) {
                // Who works in it has given it another name, or removed it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        let flags = AtFlags::REMOVEDIR;
        Ok(rustix::fs::unlinkat(&self.0, name.as_ref(), flags)?)
    }

    /// The same where others may still make files. What cannot be removed, the next run removes.
    pub fn remove_busy(&self, name: impl AsRef<OsStr>) {
        for _ in 0..1000 {
            match self.remove_flat(name.as_ref()) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => return,
            }
        }
    }

    /// Gives what is `name` here the name `new` in `to`, in place of what has it.
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &Dir,
        new: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        let flags = RenameFlags::empty();
        let (name, new) = (name.as_ref(), new.as_ref());
        Ok(rustix::fs::renameat_with(&self.0, name, &to.0, new, flags)?)
    }

    /// All names, in no order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable()?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The directory itself, to be listed, locked and synced: nobody else has this descriptor.
    pub fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, ".", flags, Mode::empty())?)
    }

    /// Whether files can be renamed from here to `other`: it lies on the same filesystem and is
    /// reached by the same mount.
    pub fn is_beside(&self, other: &Dir) -> io::Result<bool> {
        let place = |dir: &Dir| {
            let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
            let found = rustix::fs::statx(&dir.0, "", AtFlags::EMPTY_PATH, mask)?;
            Ok::<_, Errno>((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
        };
        Ok(place(self)? == place(other)?)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_regular(found: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Err(Errno::INVAL.into()),
    }
}
