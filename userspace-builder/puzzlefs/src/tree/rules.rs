// SPDX-License-Identifier: Apache-2.0
//! What a build changes of the tree that it reads: what is left out, and who owns what.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// What a build changes of the tree that it reads. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    exclude: Option<Gitignore>,
    /// Owner and group of all files.
    pub owner: Option<Owner>,
    /// Which owners become which.
    pub uids: IdMap,
    /// Which groups become which.
    pub gids: IdMap,
}

/// An owner and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (uid, gid) = text.split_once(':').ok_or("expected UID:GID, as in 0:0")?;
        Ok(Owner {
            uid: id(uid)?,
            gid: id(gid)?,
        })
    }
}

/// Ranges of numbers, as in /proc/PID/uid_map (user_namespaces(7)).
#[derive(Clone, Debug, Default)]
pub struct IdMap(pub Vec<Range>);

/// A range of numbers that become others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first number in the image.
    pub inside: u32,
    /// The first number on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected INSIDE:OUTSIDE:COUNT, as in 0:100000:65536";
        let numbers: Result<Vec<u32>, String> = text.split(':').map(id).collect();
        let (inside, outside, count) = match numbers?[..] {
            [inside, outside] => (inside, outside, 1),
            [inside, outside, count] => (inside, outside, count),
            _ => return Err(expected.into()),
        };
        let fits = |first: u32| first.checked_add(count).is_some();
        match count > 0 && fits(inside) && fits(outside) {
            true => Ok(Range {
                inside,
                outside,
                count,
            }),
            false => Err(format!("{text}: no such range of numbers; {expected}")),
        }
    }
}

fn id(text: &str) -> Result<u32, String> {
    let number = text.parse().map_err(|e| format!("{text:?}: {e}"))?;
    match number {
        u32::MAX => Err(format!("{number} is nobody's number (chown(2))")),
        number => Ok(number),
    }
}

impl IdMap {
    /// What a number of the host becomes; without any range, itself.
    fn map(&self, number: u32) -> Option<u32> {
        if self.0.is_empty() {
            return Some(number);
        }
        self.0.iter().find_map(|range| {
            let at = number.checked_sub(range.outside)?;
            (at < range.count).then(|| range.inside + at)
        })
    }
}

impl Rules {
    /// Leaves out what these patterns match, in the syntax of gitignore(5), from the root of the tree. A
    /// later one has precedence.
    ///
    /// # Errors
    ///
    /// Names the pattern that is none.
    pub fn exclude<'a>(&mut self, patterns: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns {
            let added = builder.add_line(None, pattern);
            added.with_context(|| format!("the pattern {pattern:?}"))?;
        }
        let matcher = builder.build().context("patterns of what to leave out")?;
        self.exclude = (!matcher.is_empty()).then_some(matcher);
        Ok(())
    }

    /// Whether anything may be left out.
    pub fn excludes_any(&self) -> bool {
        self.exclude.is_some()
    }

    /// Whether `path`, from the root of the tree, is left out. What is in a directory that is left out is
    /// not asked for.
    pub fn is_excluded(&self, path: &Path, is_dir: bool) -> bool {
        let exclude = self.exclude.as_ref();
        exclude.is_some_and(|exclude| exclude.matched(path, is_dir).is_ignore())
    }

    /// Owner and group in the image of what has these on the host.
    ///
    /// # Errors
    ///
    /// If a map has no place for one.
    pub fn own(&self, uid: u32, gid: u32) -> Result<Owner> {
        if let Some(owner) = self.owner {
            return Ok(owner);
        }
        let unmapped = |what, option, number| {
            format!("its {what} {number} is in no range of {option}: add one, or use --owner")
        };
        Ok(Owner {
            uid: (self.uids.map(uid)).with_context(|| unmapped("owner", "--uid-map", uid))?,
            gid: (self.gids.map(gid)).with_context(|| unmapped("group", "--gid-map", gid))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_mapped() {
        let map = IdMap(vec![
            "0:1000".parse().unwrap(),
            "1:100000:65536".parse().unwrap(),
        ]);
        for (outside, inside) in [
            (1000, Some(0)),
            (100_000, Some(1)),
            (165_535, Some(65_536)),
            (165_536, None),
            (999, None),
            (0, None),
        ] {
            assert_eq!(map.map(outside), inside, "{outside}");
        }
        assert_eq!(IdMap::default().map(7), Some(7));
    }

    #[test]
    fn other_ranges_are_refused() {
        for bad in [
            "",
            "1",
            "1:",
            "1:2:3:4",
            "0:0:0",
            "-1:0:1",
            "4294967295:0:1",
            "0:4294967290:10",
            "a:b:c",
        ] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        for bad in ["", "0", "0:", "root:root", "0:4294967295", "0:0:0"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_those_of_git() {
        let mut rules = Rules::default();
        let patterns = ["*.o", "/top", "dir/", "!keep.o", "a/**/z", "# no pattern"];
        rules.exclude(patterns).unwrap();
        for (path, is_dir, is_out) in [
            ("x.o", false, true),
            ("deep/er/x.o", false, true),
            ("deep/keep.o", false, false),
            ("top", false, true),
            ("deep/top", false, false),
            ("dir", true, true),
            ("dir", false, false),
            ("deep/dir", true, true),
            ("a/b/c/z", false, true),
            ("# no pattern", false, false),
        ] {
            assert_eq!(rules.is_excluded(Path::new(path), is_dir), is_out, "{path}");
        }
        assert!(Rules::default().exclude(["[z-a]"]).is_err());
    }
}
