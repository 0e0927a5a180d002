// SPDX-License-Identifier: Apache-2.0
//! The entries of one layer, in the places that they get if they are unpacked one after another.

use std::collections::BTreeMap;

use anyhow::{bail, ensure, Result};

use super::names::{Path, MAX_DEPTH};

/// The number of an inode: its index in the list of all layers' inodes.
pub type Id = u32;

/// Links that are followed on the way to one entry, at most: MAXSYMLINKS of include/linux/namei.h.
const MAX_LINKS: u32 = 40;
/// Names on the way to one entry, at most, those of links among them.
const MAX_STEPS: u32 = 8192;

/// The number of a layer; that of the uppermost one is 0.
pub type Layer = u32;

/// What a directory lets be seen of the one in the same place of the layers below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Below {
    /// All that it has no name for itself.
    #[default]
    All,
    /// Owner, times and the like, if it has none itself. An opaque whiteout lies in it.
    Attributes,
    /// Nothing: it was removed before this one was made.
    Nothing,
}

/// A directory.
#[derive(Debug)]
pub struct Dir {
    /// Its inode; none if no entry speaks of it itself.
    pub inode: Option<Id>,
    /// The uppermost layer that has it.
    pub layer: Layer,
    /// What is in it.
    pub names: BTreeMap<Box<[u8]>, Name>,
    /// What of layers below is seen through it.
    pub below: Below,
}

/// What a name in a directory stands for.
#[derive(Debug)]
pub enum Name {
    /// A directory.
    Dir(Dir),
    /// What is no directory.
    Leaf(Id),
    /// Nothing: what layers below have there is hidden.
    Gone,
}

/// Where the symbolic link `id` leads, if it is one.
pub type Target<'a> = &'a dyn Fn(Id) -> Option<Vec<u8>>;

impl Default for Dir {
    fn default() -> Self {
        Dir {
            inode: None,
            layer: Layer::MAX,
            names: BTreeMap::new(),
            below: Below::All,
        }
    }
}

impl Dir {
    /// A directory that is made where something else was removed.
    fn fresh() -> Self {
        Dir {
            below: Below::Nothing,
            ..Dir::default()
        }
    }

    /// Notes that it, and all that is in it, is of `layer`.
    pub fn is_of(&mut self, layer: Layer) {
        self.layer = layer;
        for name in self.names.values_mut() {
            if let Name::Dir(dir) = name {
                dir.is_of(layer);
            }
        }
    }

    /// Whether it is as if it were not there.
    pub fn says_nothing(&self) -> bool {
        self.inode.is_none() && self.names.is_empty() && self.below == Below::All
    }

    /// What is at a place, if this layer says anything of it.
    pub fn find(&self, path: &[Vec<u8>]) -> Option<&Name> {
        let (last, parents) = path.split_last()?;
        let mut dir = self;
        for name in parents {
            match dir.names.get(name.as_slice()) {
                Some(Name::Dir(next)) => dir = next,
                _ => return None,
            }
        }
        dir.names.get(last.as_slice())
    }

    /// Whether what is at `path`, or on the way there, is no directory.
    pub fn is_leaf(&self, path: &[Vec<u8>]) -> bool {
        (1..=path.len()).any(|len| matches!(self.find(&path[..len]), Some(Name::Leaf(_))))
    }

    /// The directory at `path`, made if need be. Symbolic links of this layer on the way are
    /// followed, from the root of the image.
    ///
    /// # Errors
    ///
    /// If something else is in the place of a directory.
    pub fn make(&mut self, path: &[Vec<u8>], target: Target<'_>) -> Result<&mut Dir> {
        let path = self.resolve(path, target)?;
        ensure!(
            path.len() <= MAX_DEPTH,
            "more than {MAX_DEPTH} directories deep"
        );
        let mut dir = self;
        for name in path {
            let there = dir.names.entry(name.into());
            let there = there.or_insert_with(|| Name::Dir(Dir::default()));
            if let Name::Gone = there {
                *there = Name::Dir(Dir::fresh());
            }
            match there {
                Name::Dir(next) => dir = next,
                _ => bail!("what it lies in is no directory"),
            }
        }
        Ok(dir)
    }

    /// `path` without the symbolic links that this layer has on it.
    fn resolve(&self, path: &[Vec<u8>], target: Target<'_>) -> Result<Path> {
        let mut left: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
        let (mut at, mut links, mut steps) = (Path::new(), 0, 0);
        // The directories on the way; nothing where the layer has none.
        let mut dirs: Vec<Option<&Dir>> = vec![Some(self)];
        while let Some(name) = left.pop() {
            steps += 1;
            ensure!(steps <= MAX_STEPS, "too long a way to it by symbolic links");
            if name == b".." {
                if at.pop().is_some() {
                    dirs.pop();
                }
                continue;
            }
            let there = dirs.last().copied().flatten();
            let there = there.and_then(|dir| dir.names.get(name.as_slice()));
            let link = match there {
                Some(Name::Leaf(id)) => target(*id),
                _ => None,
            };
            let Some(link) = link else {
                dirs.push(match there {
                    Some(Name::Dir(dir)) => Some(dir),
                    _ => None,
                });
                at.push(name);
                continue;
            };
            links += 1;
            ensure!(
                links <= MAX_LINKS,
                "too many symbolic links on the way to it"
            );
            if link.starts_with(b"/") {
                at.clear();
                dirs.truncate(1);
            }
            let names = link.split(|b| *b == b'/');
            let names = names.filter(|name| !name.is_empty() && name != b".");
            left.extend(names.rev().map(<[u8]>::to_vec));
        }
        Ok(at)
    }

    /// Directories in each other, at most, below this one.
    pub fn depth(&self) -> usize {
        let depths = self.names.values().map(|name| match name {
            Name::Dir(dir) => 1 + dir.depth(),
            _ => 0,
        });
        depths.max().unwrap_or(0)
    }

    /// Puts a leaf in the place of what is there.
    pub fn put(&mut self, name: &[u8], id: Id) {
        self.names.insert(name.into(), Name::Leaf(id));
    }

    /// Puts a directory there, or gives the one that is there another inode.
    pub fn put_dir(&mut self, name: &[u8], id: Id) {
        let there = self.names.entry(name.into());
        let there = there.or_insert_with(|| Name::Dir(Dir::default()));
        if !matches!(there, Name::Dir(_)) {
            *there = Name::Dir(Dir::fresh());
        }
        if let Name::Dir(dir) = there {
            dir.inode = Some(id);
        }
    }

    /// Hides what layers below have of this name.
    pub fn hide(&mut self, name: &[u8]) {
        match self.names.entry(name.into()).or_insert(Name::Gone) {
            Name::Dir(dir) => dir.below = Below::Nothing,
            Name::Leaf(_) | Name::Gone => {}
        }
    }

    /// Hides all that layers below have in it.
    pub fn hide_all(&mut self) {
        if self.below == Below::All {
            self.below = Below::Attributes;
        }
    }

    /// Whether a layer below could not show what it has at `path`.
    pub fn hides(&self, path: &[Vec<u8>], is_dir: bool) -> bool {
        let mut dir = self;
        for (at, name) in path.iter().enumerate() {
            if dir.below != Below::All {
                return true;
            }
            match dir.names.get(name.as_slice()) {
                None => return false,
                Some(Name::Gone | Name::Leaf(_)) => return true,
                Some(Name::Dir(next)) => dir = next,
            }
            if at + 1 == path.len() && !is_dir {
                return true;
            }
        }
        false
    }
}
