// SPDX-License-Identifier: Apache-2.0
//! Walking the tree of an image. Images are hostile: a directory that is reached a
//! second time is an error, so the walk ends, and it takes no recursion.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Dir, Inode, Kind, Rootfs};

use crate::base::text;
use crate::image::Image;

/// What a walk comes to.
pub enum Step<'a> {
    /// A name: the inode that it stands for. A directory's comes before its entries.
    Enter(Inode<'a>),
    /// A directory whose entries have all been visited.
    Leave(Inode<'a>),
}

/// Where a name is: the number of its directory, and the index of its entry there.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    dir: u64,
    index: u32,
}

struct Frame<'a> {
    inode: Inode<'a>,
    dir: Dir<'a>,
    /// Indices of the entries by name; `None` when they are sorted already.
    order: Option<Vec<u32>>,
    next: u32,
}

/// What a walk came to last.
enum Last<'a> {
    /// Nothing yet: it begins here.
    Start(Inode<'a>),
    /// What is to be descended into, if it is a directory, and the name that led to it.
    Entered(Inode<'a>, Option<Name>),
    /// What is done with.
    Done,
}

/// A walk through an inode and, if it is a directory, all below it: in pre-order, names in
/// byte order. What it looks at is charged to [`Image::work`].
pub struct Walk<'a> {
    image: &'a Image,
    rootfs: Rootfs<'a>,
    base: PathBuf,
    path: PathBuf,
    /// The directories that were descended into, and what led to each.
    seen: HashMap<u64, Option<Name>>,
    stack: Vec<Frame<'a>>,
    last: Last<'a>,
}

impl<'a> Walk<'a> {
    /// Through all that is in `image`.
    pub fn new(image: &'a Image) -> Result<Self> {
        Self::from(image, Path::new("/"), image.rootfs()?.root()?)
    }

    /// From `start`, which is at `base`.
    pub fn from(image: &'a Image, base: &Path, start: Inode<'a>) -> Result<Self> {
        Ok(Walk {
            image,
            rootfs: image.rootfs()?,
            base: base.to_owned(),
            path: PathBuf::new(),
            seen: HashMap::new(),
            stack: Vec::new(),
            last: Last::Start(start),
        })
    }

    /// The path of what was entered or left last, from the start, which has an empty one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same from the root.
    pub fn full_path(&self) -> PathBuf {
        match self.path.as_os_str().is_empty() {
            true => self.base.clone(),
            false => self.base.join(&self.path),
        }
    }

    /// The same for people.
    pub fn name(&self) -> String {
        text::path(&self.full_path())
    }

    /// Where the name is that was entered last; nowhere for the start.
    pub fn place(&self) -> Option<Name> {
        match self.last {
            Last::Entered(_, name) => name,
            _ => None,
        }
    }

    /// Leaves out what is in the directory that was entered last.
    pub fn skip(&mut self) {
        self.last = Last::Done;
    }

    /// The path of a name that was entered, as [`Walk::path`] had it.
    pub fn path_of(&self, name: Name) -> Result<PathBuf> {
        let mut names = Vec::new();
        let mut next = Some(name);
        while let Some(Name { dir, index }) = next {
            let inode = self
                .rootfs
                .inode(dir)?
                .context("a directory that is gone")?;
            if let Kind::Dir(entries) = inode.kind()? {
                names.push(entries.entry(index)?.name);
            }
            next = self.seen.get(&dir).copied().flatten();
        }
        Ok(names.into_iter().rev().map(OsStr::from_bytes).collect())
    }

    /// The next step; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "what it lends is its own")]
    pub fn next(&mut self) -> Result<Option<Step<'a>>> {
        match std::mem::replace(&mut self.last, Last::Done) {
            Last::Start(start) => {
                self.last = Last::Entered(start, None);
                return Ok(Some(Step::Enter(start)));
            }
            Last::Entered(inode, name) => match inode.kind().with_context(|| self.name())? {
                Kind::Dir(dir) => self.descend(inode, dir, name)?,
                _ => drop(self.path.pop()),
            },
            Last::Done => drop(self.path.pop()),
        }
        self.advance()
    }

    /// Goes on with the entries of the directory.
    fn descend(&mut self, inode: Inode<'a>, dir: Dir<'a>, name: Option<Name>) -> Result<()> {
        ensure!(
            self.seen.insert(inode.ino(), name).is_none(),
            "{}: the directory (inode {}) has another name too",
            self.name(),
            inode.ino()
        );
        let work = self.image.work();
        work.entries(&dir)
            .with_context(|| format!("{} (inode {})", self.name(), inode.ino()))?;
        let order = order(&dir).with_context(|| self.name())?;
        self.stack.push(Frame {
            inode,
            dir,
            order,
            next: 0,
        });
        Ok(())
    }

    /// The next name of the directory, or that it is left.
    fn advance(&mut self) -> Result<Option<Step<'a>>> {
        while let Some(frame) = self.stack.last_mut() {
            if frame.next == frame.dir.len() {
                let inode = frame.inode;
                self.stack.pop();
                return Ok(Some(Step::Leave(inode)));
            }
            let index = match &frame.order {
                Some(order) => order[frame.next as usize],
                None => frame.next,
            };
            frame.next += 1;
            let dir = frame.inode.ino();
            let found = self.rootfs.live_entries(&frame.dir).get(index);
            if let Some((entry, inode)) = found.with_context(|| self.name())? {
                self.path.push(OsStr::from_bytes(entry.name));
                self.image.work().bytes(self.path.as_os_str().len())?;
                self.last = Last::Entered(inode, Some(Name { dir, index }));
                // Whoever visits it need not ask whether it is sound.
                inode.kind().with_context(|| self.name())?;
                return Ok(Some(Step::Enter(inode)));
            }
        }
        Ok(None)
    }
}

/// The entries' indices by name, if they are not in that order.
fn order(dir: &Dir<'_>) -> Result<Option<Vec<u32>>> {
    if dir.is_sorted()? {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for index in 0..dir.len() {
        entries.push((dir.entry(index)?.name, index));
    }
    entries.sort_unstable();
    Ok(Some(entries.into_iter().map(|(_, index)| index).collect()))
}
