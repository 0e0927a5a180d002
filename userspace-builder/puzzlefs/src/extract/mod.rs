// SPDX-License-Identifier: Apache-2.0
//! Extracting an image into a directory.
//!
//! Images are hostile. The format core allows no name with a slash, `.` or `..`; the
//! target directory must be new or empty; everything is created relative to a parent
//! directory opened by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, and
//! by calls that fail if the name exists. So nothing outside the target is touched.
//!
//! - this file: names;
//! - `crew`: threads that write content;
//! - `rights`: owners, modes and the like, as far as the caller may set them;
//! - `target`: the directory, which is left as it was if something fails;
//! - `merge`: one that has something already; `kept`: what of that stays in any case.
//!
//! Directories, and files that have several names, get what they are to be when all is there:
//! until then the caller can go into each directory, and may link to each file.

mod crew;
mod kept;
mod merge;
mod rights;
mod target;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{bail, Context, Result};
use puzzlefs_format::{FileType, Inode, Kind};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::base::progress::{Progress, Unit};
use crate::base::text;
use crate::host::beneath;
use crate::host::xattr::{self, remove_acls};
use crate::image::walk::{Name, Step, Walk};
use crate::image::Image;
use crew::{place, Crew, Job, Means};
use kept::Kept;
pub use rights::Report;
use rights::Rights;
use target::Target;

/// Extracts `image` into the directory `target`, which must not exist or be empty.
/// What the caller has no right to set is left out and counted.
///
/// # Errors
///
/// What keeps it from being whole. `target` is then as it was before.
pub fn extract(image: &Image, target: &Path, progress: &dyn Progress) -> crate::Result<Report> {
    extract_with(image, target, &Options::default(), progress)
}

/// What to extract, and over what.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// These paths of the image only, with all below them, and the directories above. If there are none,
    /// all.
    pub paths: Vec<PathBuf>,
    /// The directory may have something already. Of what is there under a name of the image, directories
    /// stay and get the image's attributes, unless they are only above the paths; all else is replaced. A
    /// directory with something in it is replaced by nothing else.
    pub force: bool,
    /// Paths below the directory that stay as they are, with all that is below them, and directories above them: other
    /// filesystems may be mounted there. The image's own of these names is left out.
    pub keep: Vec<PathBuf>,
}

/// The same with options.
///
/// # Errors
///
/// Into a directory that has something already everything is moved at the end. If that fails, what was
/// moved stays.
pub fn extract_with(
    image: &Image,
    target: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> crate::Result<Report> {
    let paths = chosen(image, &options.paths)?;
    xattr::need_proc()?;
    let rootfs = image.rootfs()?;
    let places = image.sound_places()?;
    let rights = Rights::new();
    let shown = target;
    let kept = Kept::new(&options.keep);
    let target = Target::new(target, image, options.force)?;
    progress.phase("extracting", rootfs.data_size(), Unit::Bytes);
    let mut extractor = Extractor {
        image,
        shown,
        root: target.inner.try_clone()?,
        rights: &rights,
        parent: None,
        links: HashMap::new(),
        later: Vec::new(),
        report: Report::default(),
    };
    let context = |path: &Path| format!("extracting {}", text::path(&shown.join(path)));
    let means = Means {
        image,
        places: &places,
        rights: &rights,
        progress,
    };
    let mut walk = Walk::new(image)?;
    thread::scope(|scope| -> Result<()> {
        let crew = Crew::begin(scope, means)?;
        let mut walked = || -> Result<()> {
            while let Some(step) = walk.next()? {
                match step {
                    Step::Enter(_)
                        if !is_chosen(&paths, walk.path()) || kept.is_it(walk.path()) =>
                    {
                        walk.skip()
                    }
                    Step::Enter(inode) if !walk.path().as_os_str().is_empty() => {
                        let created = extractor.create(&walk, &inode, &crew);
                        if !created.with_context(|| context(walk.path()))? {
                            break;
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let walked = walked();
        let written = crew.finish()?;
        walked?;
        extractor.report = extractor.report.with(&written);
        Ok(())
    })?;
    // What is below a directory before the directory.
    let mut last = Vec::new();
    for (name, ino) in std::mem::take(&mut extractor.later).into_iter().rev() {
        let path = walk.path_of(name)?;
        let inode = rootfs.inode(ino)?.context("an inode that is gone")?;
        let is_top = path.parent().is_none_or(|dir| dir.as_os_str().is_empty());
        match inode.file_type() {
            // Who may not write to a directory cannot move it.
            FileType::Dir if is_top || options.force => last.push((path, inode)),
            _ => {
                let set = extractor.set(&path, &inode);
                set.with_context(|| context(&path))?;
            }
        }
    }
    target.finish(&kept, |dir, merged| {
        extractor.enter(dir.try_clone()?);
        extractor.report.replaced = merged.replaced;
        for (path, inode) in last {
            if merged.dirs.contains(&path) {
                if is_above(&paths, &path) {
                    continue;
                }
                let removed = remove_acls(&extractor.open_dir(&path)?);
                extractor
                    .report
                    .allowed(removed)
                    .with_context(|| context(&path))?;
            }
            let set = extractor.set(&path, &inode);
            set.with_context(|| context(&path))?;
        }
        let root = Path::new("");
        if merged.dirs.contains(root) && is_above(&paths, root) {
            return Ok(());
        }
        let removed = remove_acls(dir);
        let report = &mut extractor.report;
        report.allowed(removed).context("its access control list")?;
        let root = rootfs.root()?;
        let set = extractor.rights.set(dir, b".", &root, image.work(), report);
        set.with_context(|| context(Path::new("")))
    })?;
    Ok(extractor.report)
}

/// The paths as a walk has them. All must be there.
fn chosen(image: &Image, paths: &[PathBuf]) -> crate::Result<Vec<PathBuf>> {
    let mut chosen = Vec::new();
    for path in paths {
        let names = path.components().filter(|c| *c != Component::RootDir);
        let path: PathBuf = names.filter(|c| *c != Component::CurDir).collect();
        image.lookup(path.as_os_str().as_bytes())?;
        chosen.push(path);
    }
    Ok(chosen)
}

/// Whether `path` is one of those, below one, or above one.
fn is_chosen(chosen: &[PathBuf], path: &Path) -> bool {
    let is_it = |one: &PathBuf| path.starts_with(one) || one.starts_with(path);
    chosen.is_empty() || chosen.iter().any(is_it)
}

/// Whether `path` is none of those and below none, but above one.
fn is_above(chosen: &[PathBuf], path: &Path) -> bool {
    !chosen.is_empty() && !chosen.iter().any(|one| path.starts_with(one))
}

struct Extractor<'a> {
    image: &'a Image,
    /// The target, for people.
    shown: &'a Path,
    root: OwnedFd,
    rights: &'a Rights,
    /// The directory that things were last created in.
    parent: Option<(PathBuf, Arc<OwnedFd>)>,
    /// First name of inodes that may have several.
    links: HashMap<u64, Name>,
    /// What gets its attributes when all is there: names and inodes.
    later: Vec<(Name, u64)>,
    report: Report,
}

impl Extractor<'_> {
    /// Goes on in another directory, with the same names in it.
    fn enter(&mut self, root: OwnedFd) {
        self.root = root;
        self.parent = None;
    }

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

    /// Hands the directory of `path`, and the name in it, to `work`.
    fn at<T>(
        &mut self,
        path: &Path,
        work: impl FnOnce(&mut Self, &Arc<OwnedFd>, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("no file name");
        };
        let dir = match self.parent.take() {
            Some((at, fd)) if at == parent => fd,
            _ => Arc::new(self.open_dir(parent)?),
        };
        let result = work(self, &dir, name.as_bytes());
        self.parent = Some((parent.to_owned(), dir));
        result
    }

    /// Gives what is at `path` all that `inode` has besides its content.
    fn set(&mut self, path: &Path, inode: &Inode<'_>) -> Result<()> {
        self.at(path, |own, dir, name| {
            let work = own.image.work();
            own.rights.set(dir, name, inode, work, &mut own.report)
        })
    }

    /// Makes what a walk has come to; whether it is of use to go on.
    fn create(&mut self, walk: &Walk<'_>, inode: &Inode<'_>, crew: &Crew<'_>) -> Result<bool> {
        self.at(walk.path(), |own, dir, name| {
            own.create_in(dir, name, walk, inode, crew)
        })
    }

    fn create_in(
        &mut self,
        dir: &Arc<OwnedFd>,
        name: &[u8],
        walk: &Walk<'_>,
        inode: &Inode<'_>,
        crew: &Crew<'_>,
    ) -> Result<bool> {
        if inode.file_type() != FileType::Dir && inode.nlink() != Some(1) {
            if let Some(first) = self.links.get(&inode.ino()) {
                let first = walk.path_of(*first)?;
                let from = self.open_dir(first.parent().unwrap_or(Path::new("")))?;
                let old = first.file_name().unwrap_or_default();
                rustix::fs::linkat(from, old, dir, name, AtFlags::empty())?;
                self.report.names += 1;
                return Ok(true);
            }
        }
        let device = |kind, number: puzzlefs_format::Device| {
            let device = rustix::fs::makedev(number.major, number.minor);
            rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device)
        };
        use rustix::fs::FileType as Type;
        let mut written = None;
        let made = match inode.kind()? {
            Kind::Dir(_) => Ok(rustix::fs::mkdirat(dir, name, Mode::RWXU)?),
            Kind::File(extents) => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
                written = Some((File::from(file), place(&extents)?));
                Ok(())
            }
            Kind::Symlink(link) => rustix::fs::symlinkat(link, dir, name),
            Kind::Chr(number) => device(Type::CharacterDevice, number),
            Kind::Blk(number) => device(Type::BlockDevice, number),
            Kind::Fifo => rustix::fs::mknodat(dir, name, Type::Fifo, Mode::RUSR, 0),
            Kind::Sock => rustix::fs::mknodat(dir, name, Type::Socket, Mode::RUSR, 0),
        };
        if made == Err(Errno::PERM) {
            // A device, or a filesystem that has none of the kind.
            self.report.skipped += 1;
            return Ok(true);
        }
        made?;
        self.report.names += 1;
        let is_dir = inode.file_type() == FileType::Dir;
        let later = walk.place().filter(|_| is_dir || inode.nlink() != Some(1));
        if let Some(place) = later {
            if !is_dir {
                self.links.insert(inode.ino(), place);
            }
            self.later.push((place, inode.ino()));
        }
        match (written, later) {
            (Some((file, place)), _) => Ok(crew.give(Job {
                file,
                ino: inode.ino(),
                place,
                rest: later.is_none().then(|| (Arc::clone(dir), name.to_owned())),
                path: self.shown.join(walk.path()),
            })),
            (None, Some(_)) => Ok(true),
            (None, None) => {
                let work = self.image.work();
                self.rights.set(dir, name, inode, work, &mut self.report)?;
                Ok(true)
            }
        }
    }
}
