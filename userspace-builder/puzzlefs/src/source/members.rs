// SPDX-License-Identifier: Apache-2.0
//! The members of a tar on a disk, each where it lies: nothing is unpacked.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{ensure, Context, Result};

use crate::base::error::{damage, Error};
use crate::base::text;
use crate::layers::archive::{Archive, Kind};

/// Links from one member to another that are followed: `docker save` writes one.
const MAX_LINKS: u32 = 8;
/// Members of a tar, and bytes of all their names, at most: an archive of 5,000 images has fewer.
const MAX_MEMBERS: usize = 1 << 16;
const MAX_NAMES: usize = 32 << 20;

/// A tar, and where in it its members are.
pub struct Members {
    path: PathBuf,
    file: Arc<File>,
    members: HashMap<PathBuf, Member>,
}

enum Member {
    /// Where its content begins, and how many bytes it has.
    File(u64, u64),
    /// A link to another one.
    Link(PathBuf),
}

impl Members {
    /// Looks where members are.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("reading {}", path.display());
        let file = File::open(path).with_context(context)?;
        let found = file.metadata()?;
        ensure!(
            found.is_file(),
            "{} is no regular file: what is not there twice cannot be read twice",
            path.display()
        );
        let mut begin = [0; 2];
        let _ = file.read_at(&mut begin, 0);
        ensure!(
            begin != [0x1f, 0x8b],
            "{} is compressed: decompress it first (gunzip)",
            path.display()
        );
        let file = Arc::new(file);
        let part = Part {
            file: file.clone(),
            at: 0,
            left: found.len(),
        };
        Ok(Members {
            path: path.to_owned(),
            file,
            members: damage(members(part).with_context(context))?,
        })
    }

    /// Opens a member; a link leads to another one.
    pub fn open_member(&self, name: &str) -> Result<Box<dyn Read>> {
        let mut at = plain(Path::new(name));
        for _ in 0..MAX_LINKS {
            match self.members.get(&at) {
                Some(Member::File(begin, len)) => {
                    return Ok(Box::new(Part {
                        file: self.file.clone(),
                        at: *begin,
                        left: *len,
                    }))
                }
                Some(Member::Link(to)) => at = to.clone(),
                None => break,
            }
        }
        let text = format!(
            "{} has no member {}",
            self.path.display(),
            text::quoted(name.as_bytes())
        );
        Err(Error::not_found(text).into())
    }

    /// Reads a small member.
    pub fn text(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut member = self.open_member(name)?.take(limit + 1);
        member.read_to_end(&mut text)?;
        ensure!(
            text.len() as u64 <= limit,
            "{name}: more than {limit} bytes"
        );
        Ok(text)
    }
}

/// Where the members of the tar in a file are.
fn members(file: Part) -> Result<HashMap<PathBuf, Member>> {
    let mut archive = Archive::with_skip(file, |file, len| Ok(file.skip(len)));
    let (mut members, mut names) = (HashMap::new(), 0);
    while let Some(entry) = archive.next()? {
        let name = plain(Path::new(OsStr::from_bytes(&entry.path)));
        let to = |target: &[u8], dir: &Path| plain(&dir.join(OsStr::from_bytes(target)));
        let member = match entry.kind {
            Kind::Symlink(target) => {
                Member::Link(to(&target, name.parent().unwrap_or(Path::new(""))))
            }
            Kind::Link(target) => Member::Link(to(&target, Path::new(""))),
            Kind::File(size) => {
                ensure!(
                    archive.stored() == size,
                    "{} is stored with holes: make the archive without (tar has an option --sparse)",
                    text::path(&name)
                );
                Member::File(archive.input().at, size)
            }
            _ => continue,
        };
        names += name.as_os_str().len();
        if let Member::Link(to) = &member {
            names += to.as_os_str().len();
        }
        members.insert(name, member);
        ensure!(
            members.len() <= MAX_MEMBERS && names <= MAX_NAMES,
            "more than {MAX_MEMBERS} members, or names of more than {MAX_NAMES} bytes"
        );
    }
    Ok(members)
}

/// A path without what does not lead anywhere.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => plain.push(name),
            std::path::Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Part {
    /// Skips `len` bytes; says how many there are.
    fn skip(&mut self, len: u64) -> u64 {
        let len = len.min(self.left);
        self.at += len;
        self.left -= len;
        len
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..len], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
