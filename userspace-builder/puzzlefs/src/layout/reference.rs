// SPDX-License-Identifier: Apache-2.0
//! `OCI_DIR:TAG` and `OCI_DIR@sha256:DIGEST`, the names of an image on the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use puzzlefs_format::Digest;

/// An image in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The layout's directory.
    pub layout: PathBuf,
    /// Which image of it.
    pub name: Name,
}

/// What an image of a layout is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// By a tag.
    Tag(String),
    /// By the digest of its manifest.
    Digest(Digest),
}

impl Reference {
    /// The image with a tag.
    pub fn of_tag(layout: impl Into<PathBuf>, tag: impl Into<String>) -> Self {
        Reference {
            layout: layout.into(),
            name: Name::Tag(tag.into()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Tag(tag) => f.write_str(tag),
            Name::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.layout.display();
        match self.name {
            Name::Tag(_) => write!(f, "{layout}:{}", self.name),
            Name::Digest(_) => write!(f, "{layout}{}", self.name),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(digest) => digest_of(digest)
                .map(Name::Digest)
                .ok_or_else(|| format!("{text}: expected @sha256: and 64 hexadecimal digits")),
            None if is_tag(text) => Ok(Name::Tag(text.into())),
            None => Err(TAG_GRAMMAR.into()),
        }
    }
}

/// What [`is_tag`] asks for.
pub const TAG_GRAMMAR: &str = "a tag has letters and digits, with one of -._:@+ or -- between \
    them, and / between parts of that kind, as in repo/name:1.0";

impl FromStr for Reference {
    type Err = String;

    /// Tags may have colons, and so may directories. It is split where the layout is that is
    /// there, or else where a directory is; and where nothing is, at the first colon, as other
    /// tools do.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected OCI_DIR:TAG, as in /var/lib/images:debian".to_string();
        let mut splits = Vec::new();
        for (at, _) in text.match_indices([':', '@']).filter(|(at, _)| *at > 0) {
            let (layout, rest) = text.split_at(at);
            let rest = rest.strip_prefix(':').unwrap_or(rest);
            if let Ok(name) = rest.parse::<Name>() {
                let layout = PathBuf::from(layout);
                // What is wrong with a digest makes no tag of it.
                if layout.to_string_lossy().ends_with("@sha256") && !layout.is_dir() {
                    continue;
                }
                splits.push(Reference { layout, name });
            }
        }
        let is_layout = |path: &Path| path.join("oci-layout").symlink_metadata().is_ok();
        let is_below_colon = |path: &Path| {
            let above = path.parent();
            above.is_some_and(|dir| dir.to_string_lossy().contains(':') && dir.is_dir())
        };
        let tests: [&dyn Fn(&Path) -> bool; 4] =
            [&is_layout, &Path::is_dir, &is_below_colon, &|_| true];
        let found = tests
            .iter()
            .find_map(|is_it| splits.iter().find(|split| is_it(&split.layout)));
        match found {
            Some(split) => Ok(split.clone()),
            None if text.trim_start_matches(':').contains(':') => {
                Err(format!("{}; {TAG_GRAMMAR}", expected()))
            }
            None => Err(expected()),
        }
    }
}

fn digest_of(text: &str) -> Option<Digest> {
    let digest = Digest::parse(text.strip_prefix("sha256:")?.as_bytes()).ok()?;
    (format!("sha256:{digest}") == text).then_some(digest)
}

/// Whether `text` is a tag: a reference in the grammar of `org.opencontainers.image.ref.name`
/// (OCI image-spec, annotations.md), which skopeo and umoci hold others to. Those have no limit;
/// a file name has this one.
pub fn is_tag(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

/// `component ::= alphanum (separator alphanum)*`, `separator ::= [-._:@+] | "--"`.
fn is_component(text: &str) -> bool {
    let is_separator = |c: char| "-._:@+".contains(c);
    let mut parts = text.split(is_separator).peekable();
    let mut at = 0;
    while let Some(part) = parts.next() {
        at += part.len();
        let is_double = part.is_empty() && text.get(at.saturating_sub(1)..=at) == Some("--");
        let is_inner = at > 0 && parts.peek().is_some_and(|next| !next.is_empty());
        let is_alphanumeric = part.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_alphanumeric || part.is_empty() && !(is_double && is_inner && at > 1) {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_what_others_take() {
        for good in [
            "a",
            "1",
            "debian:12",
            "repo/name:1.0",
            "a--b",
            "a-b_c.d+e@f:g",
            "A/B/c--d",
            "v1",
            &"x".repeat(255),
        ] {
            assert!(is_tag(good), "{good}");
        }
        for bad in [
            "",
            "-",
            "--",
            "-a",
            "a-",
            "a--",
            "--a",
            "a---b",
            "a..b",
            "a.-b",
            "a-.b",
            "a/",
            "/a",
            "a//b",
            "a b",
            "a\n",
            "\u{e9}",
            "a:",
            ":a",
            "a/-b",
            "a/b-/c",
            "a%b",
            "a,b",
            &"x".repeat(256),
        ] {
            assert!(!is_tag(bad), "{bad}");
        }
    }

    #[test]
    fn it_is_split_by_what_exists() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        let split = |text: &str| {
            let found: Reference = at(text).parse().unwrap();
            let layout = found.layout.strip_prefix(dir.path()).unwrap();
            (layout.to_str().unwrap().to_owned(), found.name.to_string())
        };
        let is = |layout: &str, name: &str| (layout.to_owned(), name.to_owned());
        assert_eq!(split("L:debian:12"), is("L", "debian:12"));
        assert_eq!(split("L:repo/name:1.0"), is("L", "repo/name:1.0"));
        std::fs::create_dir(at("L:debian")).unwrap();
        assert_eq!(split("L:debian:12"), is("L:debian", "12"));
        assert_eq!(split("L:debian/new:12"), is("L:debian/new", "12"));
        std::fs::create_dir(at("L")).unwrap();
        std::fs::write(at("L/oci-layout"), "").unwrap();
        assert_eq!(split("L:debian:12"), is("L", "debian:12"));
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(
            split(&format!("L@sha256:{digest}")),
            is("L", &format!("@sha256:{digest}"))
        );
        // A tag may look like it, behind another.
        let tag = format!("a@sha256:{digest}");
        assert_eq!(split(&format!("L:{tag}")), is("L", &tag));
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "",
            "dir",
            "dir:",
            ":tag",
            "dir:-a",
            "dir:a b",
            "dir@sha256:00",
            "@sha256:00",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        let upper = format!("dir@sha256:{}", "AB".repeat(32));
        assert!(upper.parse::<Reference>().is_err());
    }
}
