// SPDX-License-Identifier: Apache-2.0
//! Extracting an image into a directory.
//!
//! Images are hostile. The format core allows no name with a slash, `.` or `..`; the
//! target directory must be new or empty; everything is created relative to a parent
//! directory opened by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, and
//! by calls that fail if the name exists. So nothing outside the target is touched.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use puzzlefs_format::{xattr_is_shown, Extents, FileType, Inode, Kind};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::base::progress::{Progress, Unit};
use crate::base::text;
use crate::host::{beneath, xattr};
use crate::image::chunk::ChunkReader;
use crate::image::walk::{Name, Step, Walk};
use crate::image::Image;

/// What was extracted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Report {
    /// Names made, the target itself aside.
    pub names: u64,
    /// Bytes of files.
    pub data_bytes: u64,
    /// Owners, devices and extended attributes that only root could have set.
    pub skipped: u64,
    /// Extended attributes that readers leave out (FORMAT.md, section 3.3), and that are a second
    /// one of their name.
    pub hidden: u64,
}

/// Extracts `image` into the directory `target`, which must not exist or be empty.
/// Run by root it restores everything; by others it leaves out what they may not set.
pub fn extract(image: &Image, target: &Path, progress: &dyn Progress) -> Result<Report> {
    xattr::need_proc()?;
    match fs::create_dir(target) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut entries =
                fs::read_dir(target).with_context(|| format!("{}", target.display()))?;
            ensure!(
                entries.next().is_none(),
                "{} is not empty: name a new directory",
                target.display()
            );
        }
        Err(e) => return Err(e).with_context(|| format!("creating {}", target.display())),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty())?;
    let rootfs = image.rootfs()?;
    progress.phase("extracting", rootfs.data_size(), Unit::Bytes);
    let places = image.sound_places()?;
    let mut extractor = Extractor {
        image,
        root,
        chunks: ChunkReader::new(&places, rootfs.version())?,
        privileged: rustix::process::geteuid().is_root(),
        parent: None,
        links: HashMap::new(),
        report: Report::default(),
        progress,
    };
    let mut walk = Walk::new(image)?;
    while let Some(step) = walk.next()? {
        let result = match step {
            Step::Enter(_) if walk.path().as_os_str().is_empty() => Ok(()),
            Step::Enter(inode) => extractor.create(&walk, &inode),
            Step::Leave(inode) => extractor.finish_directory(walk.path(), &inode),
        };
        result.with_context(|| format!("extracting {}", text::path(&target.join(walk.path()))))?;
    }
    Ok(extractor.report)
}

struct Extractor<'a> {
    image: &'a Image,
    root: OwnedFd,
    chunks: ChunkReader<'a>,
    privileged: bool,
    /// The directory that things were last created in.
    parent: Option<(PathBuf, OwnedFd)>,
    /// First name of inodes that may have several.
    links: HashMap<u64, Name>,
    report: Report,
    progress: &'a dyn Progress,
}

impl Extractor<'_> {
    fn open_dir(&self, path: &Path) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        Ok(beneath::open(
            &self.root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY,
        )?)
    }

    fn create(&mut self, walk: &Walk<'_>, inode: &Inode<'_>) -> Result<()> {
        let path = walk.path();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("no file name");
        };
        let dir = match self.parent.take() {
            Some((at, fd)) if at == parent => fd,
            _ => self.open_dir(parent)?,
        };
        let result = self.create_in(&dir, name.as_bytes(), walk, inode);
        self.parent = Some((parent.to_owned(), dir));
        self.report.names += 1;
        result
    }

    fn create_in(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        walk: &Walk<'_>,
        inode: &Inode<'_>,
    ) -> Result<()> {
        if inode.file_type() != FileType::Dir && inode.nlink() != Some(1) {
            if let Some(first) = self.links.get(&inode.ino()) {
                let first = walk.path_of(*first)?;
                let from = self.open_dir(first.parent().unwrap_or(Path::new("")))?;
                let old = first.file_name().unwrap_or_default();
                rustix::fs::linkat(from, old, dir, name, AtFlags::empty())?;
                return Ok(());
            }
            let place = walk.place();
            place.map(|place| self.links.insert(inode.ino(), place));
        }
        let device = |kind, number: puzzlefs_format::Device| {
            let device = rustix::fs::makedev(number.major, number.minor);
            rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device)
        };
        use rustix::fs::FileType as Type;
        let made = match inode.kind()? {
            // Its metadata follows once its entries are there.
            Kind::Dir(_) => return Ok(rustix::fs::mkdirat(dir, name, Mode::RWXU)?),
            Kind::File(extents) => {
                self.write(dir, name, &extents)?;
                Ok(())
            }
            Kind::Symlink(link) => rustix::fs::symlinkat(link, dir, name),
            Kind::Chr(number) => device(Type::CharacterDevice, number),
            Kind::Blk(number) => device(Type::BlockDevice, number),
            Kind::Fifo => rustix::fs::mknodat(dir, name, Type::Fifo, Mode::RUSR, 0),
            Kind::Sock => rustix::fs::mknodat(dir, name, Type::Socket, Mode::RUSR, 0),
        };
        if self.allowed(made)? {
            self.attributes(dir, name, inode)?;
        } else {
            self.links.remove(&inode.ino());
        }
        Ok(())
    }

    fn write(&mut self, dir: &OwnedFd, name: &[u8], extents: &Extents<'_>) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(
            dir,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?);
        // Extents may be short, and holes many.
        let mut file = BufWriter::new(file);
        let mut hole = 0;
        let work = self.image.work();
        work.extents(extents)?;
        let size = extents.total()?;
        for extent in extents.iter() {
            let extent = extent?;
            match extent.chunk {
                Some(at) => {
                    let decoded = self.chunks.decoded();
                    if hole > 0 {
                        file.seek(SeekFrom::Current(hole))?;
                        hole = 0;
                    }
                    let content = self.chunks.read(&at, extent.len)?;
                    file.write_all(content)?;
                    work.waste(self.chunks.decoded() - decoded, extent.len)?;
                    self.progress.advance(extent.len);
                }
                // The sum of all is within its limit.
                None => hole += i64::try_from(extent.len)?,
            }
        }
        // A hole may be last.
        file.into_inner()
            .map_err(|error| error.into_error())?
            .set_len(size)?;
        self.report.data_bytes = self.report.data_bytes.saturating_add(size);
        Ok(())
    }

    fn finish_directory(&mut self, path: &Path, inode: &Inode<'_>) -> Result<()> {
        let dir = self.open_dir(path)?;
        self.attributes(&dir, b".", inode)
    }

    /// Owner, extended attributes, mode, times. In this order: chown(2) clears set-uid
    /// bits and capabilities, and all but utimensat(2) may change times.
    fn attributes(&mut self, dir: &OwnedFd, name: &[u8], inode: &Inode<'_>) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(inode.uid()), Gid::from_raw(inode.gid()));
        if self.privileged {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .context("its owner")?;
        } else if uid != rustix::process::geteuid() || gid != rustix::process::getegid() {
            self.report.skipped += 1;
        }
        self.xattrs(dir, name, inode)?;
        if inode.file_type() != FileType::Symlink {
            let mode = Mode::from_raw_mode(inode.permissions().into());
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).context("its mode")?;
        }
        let mtime = inode.mtime();
        let time = Timespec {
            tv_sec: mtime.sec,
            tv_nsec: mtime.nsec.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).context("its times")?;
        Ok(())
    }

    /// The extended attributes that readers show; of several of one name the first.
    fn xattrs(&mut self, dir: &OwnedFd, name: &[u8], inode: &Inode<'_>) -> Result<()> {
        let xattrs = inode.xattrs()?;
        self.image.work().xattrs(&xattrs)?;
        let mut set = HashSet::new();
        for index in 0..xattrs.len() {
            let item = xattrs.get(index)?;
            if !xattr_is_shown(item.name, inode.file_type()) || !set.insert(item.name) {
                self.report.hidden += 1;
                continue;
            }
            let path = xattr::path_at(dir.as_fd(), name);
            let set = rustix::fs::lsetxattr(path, item.name, item.value, XattrFlags::empty());
            let context = || format!("its extended attribute {}", text::quoted(item.name));
            self.allowed(set).with_context(context)?;
        }
        Ok(())
    }

    /// Whether a call worked; one that only root may make is skipped for others.
    fn allowed(&mut self, result: rustix::io::Result<()>) -> Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::ACCESS) if !self.privileged => {
                self.report.skipped += 1;
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }
}
