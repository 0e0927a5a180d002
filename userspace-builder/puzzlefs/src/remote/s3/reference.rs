// SPDX-License-Identifier: Apache-2.0
//! What the command line calls an image of a layout in a bucket.

use std::fmt;
use std::str::FromStr;

use object_store::path::Path;

use crate::base::text;
use crate::layout::reference::Name;

/// An image of a layout whose files are objects: `s3://BUCKET/PREFIX:TAG`, `...@sha256:DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The bucket.
    pub bucket: String,
    /// What the keys of all its objects begin with, before a slash; empty for none.
    prefix: Path,
    /// Which image of it.
    pub name: Name,
}

const EXPECTED: &str =
    "expected s3://BUCKET/PREFIX:TAG, or @sha256:DIGEST in place of :TAG, where a layout's files are \
    the objects PREFIX/index.json, PREFIX/blobs/...";

impl FromStr for Reference {
    type Err = String;

    /// Tags may have colons and slashes, so that the first colon is what it is split at.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || EXPECTED.to_owned();
        let rest = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let at = [rest.find("@sha256:"), rest.find(':')];
        let at = at.into_iter().flatten().min().ok_or_else(wrong)?;
        let (place, name) = rest.split_at(at);
        let name = name.strip_prefix(':').unwrap_or(name).parse()?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        // What a bucket may be called, of old too (Amazon S3 user guide, "Bucket naming rules").
        let is_one = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_bucket = (3..=255).contains(&bucket.len()) && bucket.chars().all(is_one);
        let is_bucket = is_bucket && bucket.starts_with(|c: char| c.is_ascii_alphanumeric());
        let prefix = Path::parse(prefix.trim_end_matches('/'));
        match prefix.ok().filter(|_| is_bucket && !bucket.contains("..")) {
            Some(prefix) if !text::is_harmful_in(prefix.as_ref()) => Ok(Reference {
                bucket: bucket.to_owned(),
                prefix,
                name,
            }),
            _ => Err(wrong()),
        }
    }
}

impl Reference {
    /// The layout, without the image.
    pub fn layout(&self) -> String {
        match self.prefix.as_ref() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    /// The key of a file of the layout.
    pub fn key(&self, file: &str) -> Path {
        file.split('/')
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.layout();
        match self.name {
            Name::Tag(_) => write!(f, "{layout}:{}", self.name),
            Name::Digest(_) => write!(f, "{layout}{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn references_are_split_at_the_first_colon() {
        let digest = "@sha256:".to_owned() + &"a".repeat(64);
        for (text, bucket, index, name) in [
            ("s3://my.bucket/a/b:t", "my.bucket", "a/b/index.json", "t"),
            (
                "s3://bucket/a:debian:12",
                "bucket",
                "a/index.json",
                "debian:12",
            ),
            ("s3://bucket:repo/x", "bucket", "index.json", "repo/x"),
            (
                &format!("s3://bucket/a{digest}"),
                "bucket",
                "a/index.json",
                &digest,
            ),
        ] {
            let found: Reference = text.parse().expect(text);
            assert_eq!(found.bucket, bucket, "{text}");
            assert_eq!(found.key("index.json").as_ref(), index, "{text}");
            assert_eq!(found.name.to_string(), name, "{text}");
            assert_eq!(found.to_string(), text);
        }
        for bad in [
            "s3://bucket/a",
            "s3:///a:t",
            "s3://b/a:t",
            "s3://-bucket/a:t",
            "s3://buc ket/a:t",
            "s3://user@host/a:t",
            "s3://bu..cket/a:t",
            "s3://bucket/a//b:t",
            "s3://bucket/../b:t",
            "s3://bucket/a\nb:t",
            "s3://bucket/a:",
            "bucket/a:t",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
