// SPDX-License-Identifier: Apache-2.0
//! The members of a tar on a disk, each where it lies: nothing is unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{ensure, Context, Result};

use crate::base::error::Error;
use crate::base::text;

/// Links from one member to another that are followed: `docker save` writes one.
const MAX_LINKS: u32 = 8;

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
        let mut file = File::open(path).with_context(context)?;
        ensure!(
            file.metadata()?.is_file(),
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
        let mut members = HashMap::new();
        file.seek(SeekFrom::Start(0))?;
        for entry in tar::Archive::new(&file)
            .entries_with_seek()
            .with_context(context)?
        {
            let entry = entry.with_context(context)?;
            let name = plain(&entry.path()?);
            let member = match entry.header().entry_type() {
                tar::EntryType::Symlink => {
                    let target = entry.link_name()?.context("a link to nothing")?;
                    let dir = name.parent().unwrap_or(Path::new(""));
                    Member::Link(plain(&dir.join(target)))
                }
                tar::EntryType::Link => {
                    Member::Link(plain(&entry.link_name()?.context("a link to nothing")?))
                }
                _ => Member::File(entry.raw_file_position(), entry.size()),
            };
            members.insert(name, member);
        }
        Ok(Members {
            path: path.to_owned(),
            file: Arc::new(file),
            members,
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
