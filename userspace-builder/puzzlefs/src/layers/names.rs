// SPDX-License-Identifier: Apache-2.0
//! Where an entry belongs, and what its name means in a layer.

use anyhow::{ensure, Result};

/// What names of whiteouts begin with (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// What is left of an opaque whiteout's name, and of those by which aufs keeps its own books.
const OPAQUE: &[u8] = b".wh..opq";
const AUFS: &[u8] = b".wh.";
/// NAME_MAX of include/uapi/linux/limits.h.
const NAME_MAX: usize = 255;

/// Names on a path, at most, so that nothing that goes down a tree needs more stack than a thread has. A
/// path that Linux takes as a whole (PATH_MAX, 4096) has twice as many.
pub const MAX_DEPTH: usize = 1024;

/// A path from the root: no name is empty, `.` or `..`.
pub type Path = Vec<Vec<u8>>;

/// What the last name of an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// It is the name of a file.
    Name,
    /// What layers below have of this name is gone.
    Whiteout(&'a [u8]),
    /// All that layers below have in the directory is gone.
    Opaque,
    /// It is of no use for anybody but aufs.
    Nothing,
}

/// The place of `path` below the root: what leads out of that ends there, as it does in `/`.
///
/// # Errors
///
/// If no file can have the name.
pub fn path(path: &[u8]) -> Result<Path> {
    ensure!(!path.contains(&0), "a name with a NUL");
    let mut names = Path::new();
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => {
                ensure!(
                    name.len() <= NAME_MAX,
                    "a name of {} bytes, more than {NAME_MAX}",
                    name.len()
                );
                names.push(name.to_vec());
                ensure!(
                    names.len() <= MAX_DEPTH,
                    "more than {MAX_DEPTH} directories deep"
                );
            }
        }
    }
    Ok(names)
}

/// What `name` means in a layer.
pub fn meaning(name: &[u8]) -> Meaning<'_> {
    match name.strip_prefix(WHITEOUT) {
        None => Meaning::Name,
        Some(OPAQUE) => Meaning::Opaque,
        Some(rest) if rest.starts_with(AUFS) || rest.is_empty() => Meaning::Nothing,
        Some(rest) => Meaning::Whiteout(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_root() {
        let is = |text: &str, names: &[&str]| {
            let names: Path = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            assert_eq!(path(text.as_bytes()).unwrap(), names, "{text}");
        };
        is("./a/b/", &["a", "b"]);
        is("/a//b/./c", &["a", "b", "c"]);
        is("a/../../b", &["b"]);
        is("../..", &[]);
        is("", &[]);
        assert!(path(b"a\0b").is_err());
        assert!(path(&[b'x'; 256]).is_err());
        assert!(path(&[b'x'; 255]).is_ok());
        assert!(path("a/".repeat(MAX_DEPTH).as_bytes()).is_ok());
        assert!(path("a/".repeat(MAX_DEPTH + 1).as_bytes()).is_err());
    }

    #[test]
    fn whiteouts_are_told_by_their_names() {
        assert_eq!(meaning(b"a"), Meaning::Name);
        assert_eq!(meaning(b".wh.a"), Meaning::Whiteout(b"a"));
        assert_eq!(meaning(b".wh..hidden"), Meaning::Whiteout(b".hidden"));
        assert_eq!(meaning(b".wh..wh..opq"), Meaning::Opaque);
        assert_eq!(meaning(b".wh..wh.plnk"), Meaning::Nothing);
        assert_eq!(meaning(b".wh."), Meaning::Nothing);
        assert_eq!(meaning(b"wh.a"), Meaning::Name);
    }
}
