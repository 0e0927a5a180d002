// SPDX-License-Identifier: Apache-2.0
//! A profile as a file: a line that says what it is, and a line for each part, as JSON.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{ensure, Context};
use puzzlefs_format::limits;
use serde::{Deserialize, Serialize};

use super::{Part, Profile, MAX_PARTS};
use crate::base::digest::hex;
use crate::base::error::{Error, Result, Where};

/// What the first line says.
const SCHEMA: &str = "puzzlefs-profile-1";
/// Bytes of a file, at most.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    schema: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// The path, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Its bytes in hexadecimal, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    start: u64,
    end: u64,
}

impl Profile {
    /// The file with the profile.
    pub fn to_text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let schema = SCHEMA.to_owned();
        text.extend(serde_json::to_vec(&Head { schema })?);
        text.push(b'\n');
        for part in &self.parts {
            let path = String::from_utf8(part.path.clone()).ok();
            let line = Line {
                path_hex: path.is_none().then(|| hex(&part.path)),
                path,
                start: part.range.start,
                end: part.range.end,
            };
            text.extend(serde_json::to_vec(&line)?);
            text.push(b'\n');
        }
        Ok(text)
    }

    /// Reads a file with a profile.
    ///
    /// # Errors
    ///
    /// Names the line that is none of a profile.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("the profile {}", path.display());
        let file = File::open(path).with_context(context).at(path)?;
        let mut text = Vec::new();
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut text);
        read.with_context(context).at(path)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::refused(format!("{}: too long", context())).at(path));
        }
        Self::parse(&text).with_context(context).at(path)
    }

    /// Parses the text of such a file.
    fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let head: Option<Head> = lines
            .next()
            .and_then(|line| serde_json::from_slice(line).ok());
        ensure!(
            head.is_some_and(|head| head.schema == SCHEMA),
            "it does not begin with a line that says {SCHEMA}"
        );
        let mut profile = Profile::default();
        for (number, line) in (2..).zip(lines).filter(|(_, line)| !line.is_empty()) {
            ensure!(
                profile.parts.len() < MAX_PARTS,
                "it has more than {MAX_PARTS} parts"
            );
            let part = part(line).with_context(|| format!("line {number}"))?;
            profile.parts.push(part);
        }
        Ok(profile)
    }
}

fn part(line: &[u8]) -> anyhow::Result<Part> {
    let line: Line = serde_json::from_slice(line)?;
    let path = match (line.path, line.path_hex) {
        (Some(path), None) => path.into_bytes(),
        (None, Some(text)) => unhex(&text).context("path_hex is not in hexadecimal")?,
        _ => anyhow::bail!("one of path and path_hex is needed"),
    };
    // So nobody has to think of more.
    let names = path.split(|byte| *byte == b'/').skip(1);
    let mut names = names.map(|name| {
        (1..=limits::MAX_NAME_BYTES).contains(&name.len()) && name != b".." && name != b"."
    });
    ensure!(
        path.starts_with(b"/") && names.all(|is_name| is_name),
        "it is no path from the root"
    );
    Ok(Part {
        path,
        range: line.start..line.end,
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        pair.bytes()
            .all(|c| c.is_ascii_hexdigit())
            .then(|| u8::from_str_radix(pair, 16).ok())?
    };
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let part = |path: &[u8], range| Part {
            path: path.into(),
            range,
        };
        let parts = vec![part(b"/usr/bin/a\n\"b", 0..7), part(b"/\xff", 1..u64::MAX)];
        let profile = Profile { parts };
        let text = profile.to_text().unwrap();
        assert_eq!(Profile::parse(&text).unwrap(), profile);
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 3);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let head = "{\"schema\":\"puzzlefs-profile-1\"}\n";
        assert_eq!(Profile::parse(head.as_bytes()).unwrap(), Profile::default());
        assert!(Profile::parse(b"").is_err());
        assert!(Profile::parse(b"{\"schema\":\"puzzlefs-profile-2\"}\n").is_err());
        for bad in [
            "{}",
            "nonsense",
            "{\"path\":\"/a\",\"start\":0}",
            "{\"path\":\"a\",\"start\":0,\"end\":1}",
            "{\"path\":\"/a/../b\",\"start\":0,\"end\":1}",
            "{\"path\":\"/\",\"start\":0,\"end\":1}",
            "{\"path\":\"/a\",\"path_hex\":\"2f61\",\"start\":0,\"end\":1}",
            "{\"path_hex\":\"2f6\",\"start\":0,\"end\":1}",
            "{\"path_hex\":\"2f+1\",\"start\":0,\"end\":1}",
            "{\"path\":\"/a\",\"start\":-1,\"end\":1}",
        ] {
            let error = Profile::parse(format!("{head}\n{bad}\n").as_bytes());
            let error = format!("{:#}", error.expect_err(bad));
            assert!(error.contains("line 3"), "{bad}: {error}");
        }
    }
}
