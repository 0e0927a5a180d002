// SPDX-License-Identifier: Apache-2.0
//! Layers on top of each other: what is above counts (OCI image-spec, layer.md).

use std::collections::btree_map::Entry;

use anyhow::{ensure, Result};

use super::layer::{Below, Dir, Id, Name, Target};
use super::names::{self, Path, MAX_DEPTH};

/// A directory, in whose place a layer below has a symbolic link.
#[derive(Debug)]
pub struct Moved {
    /// Where it is.
    from: Path,
    /// Where the link leads.
    to: Path,
    /// The link.
    link: Id,
}

impl Dir {
    /// Puts `lower` below what is there.
    ///
    /// Where a layer speaks only of what is in a directory, and below a symbolic link is in the
    /// place of that, the content is where the link leads: so it is unpacked, too. Those are
    /// returned, for [`Dir::move_dir`].
    pub fn put_below(&mut self, lower: Dir, target: Target<'_>) -> Vec<Moved> {
        let mut moved = Vec::new();
        merge(self, lower, &mut Path::new(), target, &mut moved);
        moved
    }

    /// Puts what is in the directory `from` on top of what is in `to`, and in its place what is
    /// there in a layer below.
    pub fn move_dir(&mut self, moved: Moved, target: Target<'_>) -> Result<()> {
        let Moved { from, to, link } = moved;
        let Some(mut dir) = self.take(&from) else {
            return Ok(());
        };
        if let Some((name, parents)) = from.split_last() {
            self.make(parents, target)?.put(name, link);
        }
        // Each layer could lead further down.
        ensure!(
            to.len() + dir.depth() <= MAX_DEPTH,
            "more than {MAX_DEPTH} directories deep by symbolic links"
        );
        let place = self.make(&to, target)?;
        let lower = std::mem::take(place);
        let moved = dir.put_below(lower, target);
        ensure!(moved.is_empty(), "symbolic links that lead to each other");
        *place = dir;
        Ok(())
    }

    /// Takes the directory at `path` away.
    fn take(&mut self, path: &[Vec<u8>]) -> Option<Dir> {
        let (last, parents) = path.split_last()?;
        let mut dir = self;
        for name in parents {
            match dir.names.get_mut(name.as_slice()) {
                Some(Name::Dir(next)) => dir = next,
                _ => return None,
            }
        }
        match dir.names.remove(last.as_slice()) {
            Some(Name::Dir(dir)) => Some(dir),
            Some(other) => {
                dir.names.insert(last.clone().into(), other);
                None
            }
            None => None,
        }
    }
}

fn merge(upper: &mut Dir, lower: Dir, path: &mut Path, target: Target<'_>, moved: &mut Vec<Moved>) {
    upper.layer = upper.layer.min(lower.layer);
    if upper.below != Below::Nothing && upper.inode.is_none() {
        upper.inode = lower.inode;
    }
    if upper.below != Below::All {
        // What the lower one hides is hidden; only what it says of its attributes counts.
        if lower.below == Below::Nothing {
            upper.below = Below::Nothing;
        }
        return;
    }
    upper.below = lower.below;
    for (name, below) in lower.names {
        let there = match upper.names.entry(name) {
            Entry::Vacant(free) => {
                free.insert(below);
                continue;
            }
            Entry::Occupied(there) => there,
        };
        path.push(there.key().to_vec());
        let Name::Dir(dir) = there.into_mut() else {
            path.pop();
            continue;
        };
        match below {
            Name::Dir(below) => merge(dir, below, path, target, moved),
            Name::Gone => dir.below = Below::Nothing,
            Name::Leaf(id) => {
                let link = target(id).filter(|_| dir.inode.is_none() && dir.below == Below::All);
                match link {
                    Some(link) => moved.push(Moved {
                        from: path.clone(),
                        to: led(path, &link),
                        link: id,
                    }),
                    None => dir.below = Below::Nothing,
                }
            }
        }
        path.pop();
    }
}

/// Where a symbolic link at `path` leads.
fn led(path: &[Vec<u8>], link: &[u8]) -> Path {
    let above = &path[..path.len() - 1];
    let whole = match link.starts_with(b"/") {
        true => link.to_vec(),
        false => [&above.join(&b'/')[..], b"/", link].concat(),
    };
    // A name that is too long leads nowhere.
    names::path(&whole).unwrap_or_default()
}
