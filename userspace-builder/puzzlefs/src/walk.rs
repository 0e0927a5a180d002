// SPDX-License-Identifier: Apache-2.0
//! Walking the tree of an image. Images are hostile: a directory that is reached a
//! second time is an error, so the walk ends, and it takes no recursion.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Dir, Inode, Kind};

use crate::image::Image;

/// What a walk comes to.
pub enum Step<'a> {
    /// A name: the inode that it stands for. A directory's comes before its entries.
    Enter(Inode<'a>),
    /// A directory whose entries have all been visited.
    Leave(Inode<'a>),
}

struct Frame<'a> {
    inode: Inode<'a>,
    dir: Dir<'a>,
    /// Indices of the entries by name; `None` when they are sorted already.
    order: Option<Vec<u32>>,
    next: u32,
}

/// Visits `start` (whose path is `path`) and, as long as `descend` agrees for a
/// directory, all below it in pre-order, names in byte order.
pub fn walk<'a>(
    image: &'a Image,
    path: &Path,
    start: Inode<'a>,
    descend: impl Fn(&Path) -> bool,
    mut visit: impl FnMut(&Path, Step<'a>) -> Result<()>,
) -> Result<()> {
    let mut path = path.to_owned();
    let mut seen = HashSet::new();
    let rootfs = image.rootfs()?;
    // An entry takes two words. More can only come of lists that share their bytes, by
    // which a small Rootfs could keep a reader busy for years.
    let mut left = image.message().len() / 16;
    let mut stack: Vec<Frame<'a>> = Vec::new();
    enter(start, &path, &descend, &mut visit, &mut seen, &mut stack)?;
    while let Some(frame) = stack.last_mut() {
        if frame.next == frame.dir.len() {
            let inode = frame.inode;
            stack.pop();
            visit(&path, Step::Leave(inode))?;
            // The start has no parent in this walk.
            if !stack.is_empty() {
                path.pop();
            }
            continue;
        }
        let index = match &frame.order {
            Some(order) => order[frame.next as usize],
            None => frame.next,
        };
        frame.next += 1;
        left = left
            .checked_sub(1)
            .context("directories share their lists of entries")?;
        let found = rootfs
            .live_entries(&frame.dir)
            .get(index)
            .with_context(|| path.display().to_string())?;
        if let Some((entry, inode)) = found {
            path.push(OsStr::from_bytes(entry.name));
            let depth = stack.len();
            enter(inode, &path, &descend, &mut visit, &mut seen, &mut stack)?;
            if stack.len() == depth {
                path.pop();
            }
        }
    }
    Ok(())
}

/// Visits a name; a directory that is to be descended into goes on the stack.
fn enter<'a>(
    inode: Inode<'a>,
    path: &Path,
    descend: &impl Fn(&Path) -> bool,
    visit: &mut impl FnMut(&Path, Step<'a>) -> Result<()>,
    seen: &mut HashSet<u64>,
    stack: &mut Vec<Frame<'a>>,
) -> Result<()> {
    let show = || path.display().to_string();
    let kind = inode.kind().with_context(show)?;
    visit(path, Step::Enter(inode))?;
    if let Kind::Dir(dir) = kind {
        if descend(path) {
            ensure!(
                seen.insert(inode.ino()),
                "{}: the directory (inode {}) has another name too",
                show(),
                inode.ino()
            );
            let order = order(&dir).with_context(show)?;
            stack.push(Frame {
                inode,
                dir,
                order,
                next: 0,
            });
        }
    }
    Ok(())
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
