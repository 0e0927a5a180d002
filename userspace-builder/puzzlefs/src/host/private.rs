// SPDX-License-Identifier: Apache-2.0
//! A directory that nobody but its owner writes to, for what is believed when it is read again.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::host::stat::Stat;

/// The directory.
pub struct Private {
    dir: OwnedFd,
    path: PathBuf,
}

impl Private {
    /// Opens the directory `path`, which is made if need be.
    ///
    /// # Errors
    ///
    /// Where somebody else could change what is in it, or where it is to be made in somebody else's
    /// directory, as by root in the home of who called sudo.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || path.display().to_string();
        let mut above = path.ancestors().skip(1);
        if !path.exists() {
            let above = above.find_map(|path| path.metadata().ok());
            let is_ours = above.is_some_and(|dir| dir.uid() == owner());
            ensure!(is_ours, "{} is in a directory of another user", context());
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(path).with_context(context)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).with_context(context)?;
        ensure!(
            is_ours(&Stat::of(&dir)?),
            "{} is another user's, or others may write to it",
            context()
        );
        let path = path.to_owned();
        Ok(Private { dir, path })
    }

    /// A file of at most `limit` bytes, if there is one that is ours.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file.with_context(|| self.path.join(name).display().to_string())?,
        };
        let stat = Stat::of(&file)?;
        ensure!(
            stat.kind == FileType::RegularFile && is_ours(&stat) && stat.facts.size <= limit,
            "{} is no file of ours, or too large",
            self.path.join(name).display()
        );
        let mut content = Vec::new();
        File::from(file).take(limit).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Replaces a file. What is there of it after a crash may be anything.
    pub fn write(&self, name: &str, content: &[&[u8]]) -> Result<()> {
        let temporary = format!(".{name}-{}", std::process::id());
        let context = || self.path.join(&temporary).display().to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let create = || {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::openat(&self.dir, &temporary, flags | OFlags::CLOEXEC, mode)
        };
        let file = match create() {
            // Of a killed process that had our number.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty())
                    .with_context(context)?;
                create()
            }
            file => file,
        };
        let mut file = File::from(file.with_context(context)?);
        let written = content.iter().try_for_each(|part| file.write_all(part));
        let renamed = written.and_then(|()| {
            Ok(rustix::fs::renameat(
                &self.dir, &temporary, &self.dir, name,
            )?)
        });
        if renamed.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
        }
        renamed.with_context(context)
    }

    /// Removes all but the `count` files that were written last.
    pub fn keep(&self, count: usize) -> Result<()> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let stat = Stat::at(&self.dir, entry.file_name().to_bytes());
            if let Ok(stat) = stat {
                if stat.kind == FileType::RegularFile {
                    files.push((stat.facts.mtime, entry.file_name().to_owned()));
                }
            }
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        for (_, name) in files.iter().skip(count) {
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
        Ok(())
    }
}

fn owner() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_ours(stat: &Stat) -> bool {
    stat.uid == owner() && stat.permissions & 0o022 == 0
}
