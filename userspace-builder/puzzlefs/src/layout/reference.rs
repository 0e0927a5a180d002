// SPDX-License-Identifier: Apache-2.0
//! `OCI_DIR:TAG`, the name of an image on the command line.

use std::path::PathBuf;
use std::str::FromStr;

/// An image in a layout, by its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The layout's directory.
    pub layout: PathBuf,
    /// The tag.
    pub tag: String,
}

impl FromStr for Reference {
    type Err = String;

    /// Splits at the last colon, so that the directory may have some.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((layout, tag)) if !layout.is_empty() && is_tag(tag) => Ok(Reference {
                layout: layout.into(),
                tag: tag.into(),
            }),
            _ => Err("expected OCI_DIR:TAG, as in /var/lib/images:debian".into()),
        }
    }
}

/// Whether `text` is a tag (a path component in the grammar of
/// `org.opencontainers.image.ref.name`, OCI image-spec, annotations.md).
pub fn is_tag(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-._@+".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(inner)
        && text.len() <= 128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_splits() {
        let reference: Reference = "a:b/c:d-1.0".parse().unwrap();
        assert_eq!(
            (reference.layout, reference.tag.as_str()),
            ("a:b/c".into(), "d-1.0")
        );
        for bad in ["", "dir", "dir:", ":tag", "dir:a/b", "dir:-a", "dir:a b"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
