// SPDX-License-Identifier: Apache-2.0
//! A layout on any web server that gives files: nothing there but what `index.json`, `oci-layout` and
//! `blobs/` have (image specification, "Image Layout").

use std::fmt;
use std::str::FromStr;

use puzzlefs_format::{limits, MEDIA_TYPE_MANIFEST};
use ureq::http::Method;

use super::client::Client;
use super::http::Ask;
use super::manifest::Found;
use super::url::Url;
use crate::base::digest::sha256;
use crate::base::error::{Error, Result};
use crate::layout::listing;
use crate::layout::reference::Name;

/// An image of a layout on a web server: `https://HOST[:PORT]/DIR:TAG`, `...@sha256:DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The layout's directory, with a slash at the end.
    base: Url,
    /// Which image of it.
    pub name: Name,
}

const EXPECTED: &str =
    "expected https://HOST[:PORT]/DIR:TAG, or @sha256:DIGEST in place of :TAG, where DIR is a layout's \
    directory (a colon in its name is %3A)";

impl FromStr for Reference {
    type Err = String;

    /// Tags may have colons and slashes, so that the first colon of the path is what it is split at.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || EXPECTED.to_owned();
        let path = text.find("://").ok_or_else(wrong)? + 3;
        let path = path + text[path..].find('/').ok_or_else(wrong)?;
        let colon = text[path..].find(':').map(|at| path + at);
        let digest = text[path..].find("@sha256:").map(|at| path + at);
        let at = match (digest, colon) {
            (Some(digest), Some(colon)) => digest.min(colon),
            (_, colon) => colon.ok_or_else(wrong)?,
        };
        let (base, name) = text.split_at(at);
        let name = name.strip_prefix(':').unwrap_or(name).parse()?;
        let base = Url::parse(&format!("{}/", base.trim_end_matches('/')));
        let base = base.map_err(|error| format!("{error}; {EXPECTED}"))?;
        match base.has_query() || text.contains('#') {
            true => Err(wrong()),
            false => Ok(Reference { base, name }),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.to_string();
        let base = base.trim_end_matches('/');
        match self.name {
            Name::Tag(_) => write!(f, "{base}:{}", self.name),
            Name::Digest(_) => write!(f, "{base}{}", self.name),
        }
    }
}

impl Reference {
    /// The layout's directory, with a slash at the end.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }
}

impl Client {
    /// A manifest or an index of the layout, which has the digest if it is asked for by that. Of a tag that names
    /// several, it is an index of these.
    pub(super) fn manifest_of_layout(&self, name: &Name) -> Result<Found> {
        let context =
            |error: Error| error.context(format!("{}: the manifest {name}", self.called()));
        let (digest, media_type) = match name {
            Name::Digest(digest) => (*digest, MEDIA_TYPE_MANIFEST.to_owned()),
            Name::Tag(tag) => {
                let index = self.url("index.json").and_then(|url| self.file(&url));
                match listing::tagged(&index.map_err(context)?, tag).map_err(context)? {
                    listing::Tagged::One(entry) => (entry.digest, entry.media_type),
                    listing::Tagged::Several(text) => {
                        return Ok(Found {
                            digest: sha256(&[&text]),
                            media_type: listing::INDEX.to_owned(),
                            text,
                        })
                    }
                }
            }
        };
        let text = self.blob_url(&digest).and_then(|url| self.file(&url));
        let text = text.map_err(context)?;
        let found = sha256(&[&text]);
        if found != digest {
            let text = format!(
                "{}: the manifest {name} has the digest sha256:{found}, and not sha256:{digest}",
                self.called()
            );
            return Err(Error::damaged(text).of(&digest));
        }
        Ok(Found {
            digest,
            media_type,
            text,
        })
    }

    fn file(&self, url: &Url) -> Result<Vec<u8>> {
        let limit = limits::MAX_MANIFEST_BYTES as u64;
        let (_, _, text) = self.small(&Ask::new(Method::GET), url, limit)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn references_are_split_at_the_first_colon_of_the_path() {
        let digest = "@sha256:".to_owned() + &"a".repeat(64);
        for (text, base, name) in [
            ("http://h/a:t", "http://h/a/", "t"),
            (
                "https://h:80/a/b:debian:12",
                "https://h:80/a/b/",
                "debian:12",
            ),
            ("https://h/a:repo/name:1", "https://h/a/", "repo/name:1"),
            ("https://h/:t", "https://h/", "t"),
            ("https://h/a%3Ab/:t", "https://h/a%3Ab/", "t"),
            (&format!("https://h/a{digest}"), "https://h/a/", &digest),
        ] {
            let found: Reference = text.parse().expect(text);
            assert_eq!(found.base.to_string(), base, "{text}");
            assert_eq!(found.name.to_string(), name, "{text}");
        }
        for bad in [
            "h/a:t",
            "https://h",
            "https://h:80",
            "https://h/a",
            "https://u:p@h/a:t",
            "https://h/a?b:t",
            "https://h/a#b:t",
            "https://h/a:",
            "https://h/a@sha256:12",
            "ftp://h/a:t",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
