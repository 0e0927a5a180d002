// SPDX-License-Identifier: Apache-2.0
//! Reads the metadata of a host directory tree.
//!
//! Inodes are numbered as upstream PuzzleFS does: directories are visited in
//! pre-order with names in byte order, and the entries of a directory get their
//! numbers together. So the siblings that `ls -l` asks for lie side by side in
//! the image, and the same tree always gives the same numbers.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use puzzlefs_format::FileType as Type;
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

use crate::base::progress::Progress;
use crate::base::text;
use crate::host::stat::{Facts, Stat};
use crate::host::{beneath, kernel_fs, xattr};
use crate::tree::rules::Rules;
use crate::tree::{Body, Entry, Node, Text, Tree, ROOT_INO};

/// What of a directory tree is scanned, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Times after this (seconds since the epoch) become this.
    pub clamp: Option<i64>,
    /// Leave out whatever is mounted below the root.
    pub one_file_system: bool,
    /// What is to be different from the host.
    pub rules: Rules,
}

/// A scanned tree and the directory that it came from.
pub struct Scanned {
    /// The metadata; files have no extents yet.
    pub tree: Tree,
    /// The root directory, for reading the files.
    pub root: OwnedFd,
    /// What the host says of each inode, in order of their numbers.
    pub facts: Vec<Facts>,
    /// What is not in the tree.
    pub left_out: LeftOut,
}

/// What of the host is not in a tree.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// What is mounted at these paths, with the reason.
    pub mounts: Vec<(PathBuf, Reason)>,
    /// Extended attributes by their names, and how many inodes have them.
    pub xattrs: BTreeMap<Vec<u8>, u64>,
    /// How many names the rules exclude. What is in a directory of these is not counted.
    pub excluded: u64,
}

/// Why something that is mounted is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is another mount, and one was asked for.
    OtherMount,
    /// It is a filesystem of this type, which shows the state of the kernel.
    KernelState(&'static str),
}

/// Scans the directory `root`, with all that is mounted below; but not what shows the state of the
/// kernel, as proc does, nor with [`Options::one_file_system`] any other mount. In the place of a mount
/// that is left out is an empty directory, or an empty file if what is mounted is none, to mount on.
/// It has the owner and the mode of what is mounted, and the time 0.
///
/// Mounts are told apart by their numbers, not by devices: a subvolume of btrfs is another
/// device and no mount, and a part of the same filesystem may be mounted anywhere.
///
/// # Errors
///
/// Anything that cannot be read ends the scan, with the path in the error.
pub fn scan(root: &Path, options: Options, progress: &dyn Progress) -> Result<Scanned> {
    let fd = rustix::fs::open(
        root,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .with_context(|| format!("cannot open the directory {}", root.display()))?;
    let stat = Stat::of(&fd)?;
    let mut scanner = Scanner {
        tree: Tree::new(),
        links: HashMap::new(),
        options,
        facts: Vec::new(),
        left_out: LeftOut::default(),
        progress,
    };
    owned(&stat).with_context(|| root.display().to_string())?;
    let name = scanner.tree.intern(b"")?;
    let xattrs = scanner
        .xattrs(fd.as_fd(), b".", Type::Dir)
        .with_context(|| format!("xattrs of {}", root.display()))?;
    scanner.push(&stat, ROOT_INO, name, xattrs, Body::Dir(Default::default()))?;

    // Directories still to visit, the next one last.
    let mut stack = vec![(ROOT_INO, Id::of(&stat))];
    while let Some((ino, id)) = stack.pop() {
        let path = scanner.tree.path(ino);
        let context = || {
            format!(
                "cannot read the directory {}",
                text::path(&root.join(&path))
            )
        };
        let dir =
            beneath::open(&fd, &path, OFlags::RDONLY | OFlags::DIRECTORY).with_context(context)?;
        let found = Stat::of(&dir).with_context(context)?;
        ensure!(
            Id::of(&found) == id,
            "{}: another directory was mounted or put there during the build",
            context()
        );
        let first = stack.len();
        let dir = Visited { ino, fd: dir, id };
        scanner
            .directory(&dir, &root.join(&path), &mut stack)
            .with_context(context)?;
        stack[first..].reverse();
    }
    Ok(Scanned {
        tree: scanner.tree,
        root: fd,
        facts: scanner.facts,
        left_out: scanner.left_out,
    })
}

/// What a directory is, and where it is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id {
    mount: u64,
    dev: u64,
    ino: u64,
}

impl Id {
    fn of(stat: &Stat) -> Self {
        Id {
            mount: stat.mount,
            dev: stat.facts.dev,
            ino: stat.facts.ino,
        }
    }
}

/// A directory that is being read.
struct Visited {
    ino: u32,
    fd: OwnedFd,
    id: Id,
}

struct Scanner<'a> {
    tree: Tree,
    /// Host (device, inode) of files with several links, and their number here.
    links: HashMap<(u64, u64), u32>,
    options: Options,
    facts: Vec<Facts>,
    left_out: LeftOut,
    progress: &'a dyn Progress,
}

impl Scanner<'_> {
    /// Adds an inode.
    fn push(
        &mut self,
        stat: &Stat,
        parent: u32,
        name: Text,
        xattrs: u32,
        body: Body,
    ) -> Result<u32> {
        let (mtime, mtime_nsec) = clamped(&stat.facts, self.options.clamp);
        let owner = self.options.rules.own(stat.uid, stat.gid)?;
        self.facts.push(stat.facts);
        self.tree.push(Node {
            mtime,
            mtime_nsec,
            uid: owner.uid,
            gid: owner.gid,
            nlink: if matches!(body, Body::Dir(_)) { 2 } else { 1 },
            xattrs,
            parent,
            name,
            permissions: permissions(stat),
            body,
        })
    }

    /// Reads one directory: all names, then an inode for each in order of the names.
    fn directory(
        &mut self,
        dir: &Visited,
        path: &Path,
        subdirs: &mut Vec<(u32, Id)>,
    ) -> Result<()> {
        let first = self.tree.entries.len();
        for entry in Dir::read_from(&dir.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.is_excluded(dir, name, entry.file_type())? {
                self.left_out.excluded += 1;
            } else {
                let name = self.tree.intern(name)?;
                self.tree.entries.push(Entry { ino: 0, name });
            }
        }
        let span = self.tree.sort_entries(first)?;
        for index in first..self.tree.entries.len() {
            let child = self.entry(dir, index, subdirs).with_context(|| {
                let name = self.tree.text(self.tree.entries[index].name);
                let path = path.join(OsStr::from_bytes(name));
                format!("cannot read {}", text::path(&path))
            })?;
            self.tree.entries[index].ino = child;
        }
        self.tree.node_mut(dir.ino).body = Body::Dir(span);
        self.progress
            .advance(u64::try_from(self.tree.entries.len() - first)?);
        Ok(())
    }

    /// Whether the rules exclude `name` in `dir`.
    fn is_excluded(&self, dir: &Visited, name: &[u8], kind: FileType) -> Result<bool> {
        let rules = &self.options.rules;
        if !rules.excludes_any() {
            return Ok(false);
        }
        let name = OsStr::from_bytes(name);
        let path = self.tree.path(dir.ino).join(name);
        let path = path.strip_prefix(".").unwrap_or(&path);
        let kind = match kind {
            // Not every filesystem says it here.
            FileType::Unknown => {
                Stat::at(&dir.fd, name.as_bytes())
                    .with_context(|| text::path(path))?
                    .kind
            }
            kind => kind,
        };
        Ok(rules.is_excluded(path, kind == FileType::Directory))
    }

    /// The inode number of the entry `index`, which is in the directory `dir`.
    fn entry(&mut self, dir: &Visited, index: usize, subdirs: &mut Vec<(u32, Id)>) -> Result<u32> {
        let spelling = self.tree.entries[index].name;
        let name = self.tree.text(spelling).to_vec();
        let mut stat = match Stat::at(&dir.fd, &name) {
            Err(Errno::NOENT) => {
                bail!("it vanished during the build; the tree must not change meanwhile")
            }
            stat => stat?,
        };
        let is_left_out = self.is_left_out(dir, &name, &mut stat)?;
        let host = (stat.facts.dev, stat.facts.ino);
        if stat.kind == FileType::Directory {
            self.tree.node_mut(dir.ino).nlink += 1;
        } else if stat.nlink > 1 {
            if let Some(&ino) = self.links.get(&host) {
                self.tree.node_mut(ino).nlink += 1;
                return Ok(ino);
            }
        }
        let (major, minor) = stat.device;
        let (body, file_type) = match stat.kind {
            FileType::Directory => (Body::Dir(Default::default()), Type::Dir),
            FileType::RegularFile => {
                let (size, extents) = (stat.facts.size, Default::default());
                (Body::File { size, extents }, Type::File)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&dir.fd, &name, Vec::new())?;
                let target = self.tree.intern(target.as_bytes())?;
                (Body::Symlink(target), Type::Symlink)
            }
            FileType::CharacterDevice => (Body::Chr(major, minor), Type::Chr),
            FileType::BlockDevice => (Body::Blk(major, minor), Type::Blk),
            FileType::Fifo => (Body::Fifo, Type::Fifo),
            FileType::Socket => (Body::Sock, Type::Sock),
            FileType::Unknown => bail!("unknown file type"),
        };
        owned(&stat)?;
        let xattrs = self
            .xattrs(dir.fd.as_fd(), &name, file_type)
            .context("its extended attributes")?;
        let ino = self.push(&stat, dir.ino, spelling, xattrs, body)?;
        if is_left_out {
            return Ok(ino);
        }
        if stat.kind == FileType::Directory {
            subdirs.push((ino, Id::of(&stat)));
        } else if stat.nlink > 1 {
            self.links.insert(host, ino);
        }
        Ok(ino)
    }

    /// Whether what is mounted at `name` is left out; then `stat` becomes that of the place.
    fn is_left_out(&mut self, dir: &Visited, name: &[u8], stat: &mut Stat) -> Result<bool> {
        if stat.mount == dir.id.mount {
            return Ok(false);
        }
        let reason = match self.options.one_file_system {
            true => Reason::OtherMount,
            false => {
                let path = Path::new(OsStr::from_bytes(name));
                let place = beneath::open(&dir.fd, path, OFlags::PATH | OFlags::NOFOLLOW)
                    .context("opening what is mounted there")?;
                match kernel_fs::name(&place)? {
                    Some(name) => Reason::KernelState(name),
                    None => return Ok(false),
                }
            }
        };
        let path = self.tree.path(dir.ino).join(OsStr::from_bytes(name));
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        self.left_out.mounts.push((path, reason));
        if stat.kind != FileType::Directory {
            stat.kind = FileType::RegularFile;
        }
        stat.nlink = 1;
        stat.facts = Facts::default();
        Ok(true)
    }

    /// The extended attributes of `name` in `dir`.
    fn xattrs(&mut self, dir: BorrowedFd<'_>, name: &[u8], file_type: Type) -> Result<u32> {
        let (xattrs, others) = xattr::read(dir, name, file_type)?;
        for name in others {
            *self.left_out.xattrs.entry(name).or_default() += 1;
        }
        self.tree.intern_xattrs(xattrs)
    }
}

/// Permission bits. Those of a symlink mean nothing on Linux, and show where it came from.
fn permissions(stat: &Stat) -> u16 {
    match stat.kind {
        FileType::Symlink => 0o777,
        _ => stat.permissions,
    }
}

/// Refuses an owner or a group that no image can have (FORMAT.md, section 3.3).
fn owned(stat: &Stat) -> Result<()> {
    for (what, number) in [("owner", stat.uid), ("group", stat.gid)] {
        ensure!(
            number != u32::MAX,
            "its {what} is {number}, which chown(2) could set nowhere: give it another one"
        );
    }
    Ok(())
}

/// Modification time of a host file, at most `clamp`.
pub fn clamped(facts: &Facts, clamp: Option<i64>) -> (i64, u32) {
    match clamp {
        Some(limit) if facts.mtime.0 >= limit => (limit, 0),
        _ => facts.mtime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat() -> Stat {
        Stat::of(std::fs::File::open("/proc").unwrap()).unwrap()
    }

    #[test]
    fn nobody_is_refused() {
        let stat = stat();
        let gid = u32::MAX - 1;
        owned(&Stat { gid, ..stat }).unwrap();
        let nobody = u32::MAX;
        for (stat, what) in [
            (
                Stat {
                    uid: nobody,
                    ..stat
                },
                "owner",
            ),
            (
                Stat {
                    gid: nobody,
                    ..stat
                },
                "group",
            ),
        ] {
            let error = owned(&stat).unwrap_err().to_string();
            assert!(
                error.contains(what) && error.contains("4294967295"),
                "{error}"
            );
        }
    }

    #[test]
    fn permissions_of_a_symlink_are_all() {
        let (kind, permissions) = (FileType::Symlink, 0o500);
        let link = Stat {
            kind,
            permissions,
            ..stat()
        };
        assert_eq!(super::permissions(&link), 0o777);
    }
}
