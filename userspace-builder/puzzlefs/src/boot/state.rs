// SPDX-License-Identifier: Apache-2.0
//! The file by which the program of a boot image knows what to start. It lies beside the program, in the same layer.

use anyhow::{ensure, Context, Result};
use puzzlefs_format::Digest;
use serde::{Deserialize, Serialize};

use crate::base::error::{damage, Error};
use crate::layout::reference::Name;
use crate::registry::Reference;

/// Bytes of the file, at most.
pub(super) const MAX: u64 = 64 << 10;

/// What to start: an image, and what the container's own config does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The digest of the image's manifest. Nothing is taken that does not follow from it.
    pub manifest: Digest,
    /// Where the image is, by that digest.
    pub source: Reference,
    /// Whether the source speaks http without TLS.
    pub plain_http: bool,
    /// As whom the program is to run, as the image's config says it; empty: as root.
    pub user: String,
    /// Whether the image says where its home is.
    pub has_home: bool,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    manifest: String,
    source: String,
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    user: String,
    #[serde(default)]
    has_home: bool,
}

impl State {
    /// What a file says.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it says something that this program does not know, or not the same image twice.
    pub fn parse(text: &[u8]) -> crate::Result<Self> {
        damage(Self::parsed(text).context("what the boot image is to start"))
    }

    fn parsed(text: &[u8]) -> Result<Self> {
        let written: Written = serde_json::from_slice(text)?;
        let digest = written.manifest.strip_prefix("sha256:");
        let manifest = Digest::parse(digest.context("no sha256")?.as_bytes())?;
        let source: Reference = written.source.parse().map_err(Error::damaged)?;
        ensure!(
            source.name == Name::Digest(manifest),
            "its source is of another image"
        );
        Ok(State {
            manifest,
            source,
            plain_http: written.plain_http,
            user: written.user,
            has_home: written.has_home,
        })
    }

    /// The file.
    pub fn text(&self) -> crate::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(&Written {
            manifest: format!("sha256:{}", self.manifest),
            source: self.source.to_string(),
            plain_http: self.plain_http,
            user: self.user.clone(),
            has_home: self.has_home,
        })?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let manifest = Digest::from_bytes([7; 32]);
        let of = |digest: &Digest| format!("docker://h.example:5000/a/b@sha256:{digest}");
        let state = State {
            manifest,
            source: of(&manifest).parse().unwrap(),
            plain_http: true,
            user: "web:\"adm".into(),
            has_home: true,
        };
        let text = state.text().unwrap();
        assert_eq!(State::parse(&text).unwrap(), state);
        let text = String::from_utf8(text).unwrap();
        let other = of(&Digest::from_bytes([8; 32]));
        for (from, to) in [
            (of(&manifest), other),
            (of(&manifest), "docker://h.example/a/b:tag".into()),
            (of(&manifest), "oci:/a:b".into()),
            ("\"sha256:0707".into(), "\"sha512:0707".into()),
            ("plain_http".into(), "plain".into()),
            ("true".into(), "1".into()),
        ] {
            let wrong = text.replace(&from, &to);
            assert_ne!(wrong, text);
            assert!(State::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let least = format!(
            "{{\"manifest\":\"sha256:{manifest}\",\"source\":\"{}\"}}",
            of(&manifest)
        );
        let least = State::parse(least.as_bytes()).unwrap();
        assert!(least.user.is_empty() && !least.plain_http && !least.has_home);
    }
}
