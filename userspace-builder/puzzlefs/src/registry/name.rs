// SPDX-License-Identifier: Apache-2.0
//! `docker://HOST[:PORT]/REPOSITORY[:TAG]` and `...@sha256:DIGEST`, as skopeo has them
//! (containers-transports(5)): what has no host is Docker Hub's, and `latest` where no tag is named.

use std::fmt;
use std::str::FromStr;

use puzzlefs_format::Digest;

use crate::layout::reference::Name;

/// How a reference to a registry begins.
pub const PREFIX: &str = "docker://";
/// Docker Hub, and the host that serves it.
const HUB: &str = "docker.io";
const HUB_SERVER: &str = "registry-1.docker.io";
/// Bytes of the longest name of a repository that registries take.
const MAX_PATH: usize = 255;
/// Bytes of the longest tag (distribution specification, "Pulling manifests").
const MAX_TAG: usize = 128;

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository {
    /// The host as people name it, with the port if one is named.
    pub host: String,
    /// The name of the repository in it.
    pub path: String,
}

/// An image of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it is.
    pub repository: Repository,
    /// Its tag or its digest.
    pub name: Name,
}

impl Repository {
    /// The host that requests are sent to.
    pub fn server(&self) -> &str {
        match &*self.host {
            HUB | "index.docker.io" => HUB_SERVER,
            host => host,
        }
    }

    /// Whether it is one of Docker Hub.
    pub fn is_hub(&self) -> bool {
        self.server() == HUB_SERVER
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.host, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Name::Tag(_) => write!(f, "{}:{}", self.repository, self.name),
            Name::Digest(_) => write!(f, "{}{}", self.repository, self.name),
        }
    }
}

const EXPECTED: &str = "expected docker://HOST[:PORT]/REPOSITORY[:TAG] or ...@sha256:DIGEST";

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix(PREFIX).ok_or(EXPECTED)?;
        let (host, path) = match text.split_once('/') {
            Some((host, path)) if names_host(host) => (host, path.to_owned()),
            Some(_) => (HUB, text.to_owned()),
            None => (HUB, format!("library/{text}")),
        };
        if !is_host(host) {
            return Err(format!("{host} is no host; {EXPECTED}"));
        }
        let path = match (host, path.contains('/')) {
            (HUB, false) => format!("library/{path}"),
            _ => path,
        };
        if path.len() > MAX_PATH || !path.split('/').all(is_component) {
            return Err(format!(
                "{path} is no repository: its parts are of lower-case letters and digits, with \
                 . _ __ or - between them; {EXPECTED}"
            ));
        }
        let host = host.to_owned();
        Ok(Repository { host, path })
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => {
                let name: Name = format!("@{digest}").parse()?;
                (text, Some(name))
            }
            None => (text, None),
        };
        let last = text.rfind('/').unwrap_or(0);
        // A colon before it is that of a port, or of docker://.
        let (place, tag) = match text[last..].split_once(':') {
            Some((_, tag)) => (&text[..text.len() - tag.len() - 1], Some(tag)),
            None => (text, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!("{tag} is no tag of a registry; {EXPECTED}"));
        }
        let name = match (digest, tag) {
            (Some(_), Some(_)) => {
                return Err("name it by a tag or by a digest, not by both".into());
            }
            (Some(digest), None) => digest,
            (None, tag) => Name::Tag(tag.unwrap_or("latest").into()),
        };
        let repository = place.parse()?;
        Ok(Reference { repository, name })
    }
}

/// What a manifest is asked for by.
pub fn tail(name: &Name) -> String {
    match name {
        Name::Tag(tag) => tag.clone(),
        Name::Digest(digest) => prefixed(digest),
    }
}

/// A digest as registries write it.
pub fn prefixed(digest: &Digest) -> String {
    format!("sha256:{digest}")
}

/// Whether what stands before the first slash is a host, and not a part of a repository's name.
pub(super) fn names_host(text: &str) -> bool {
    let is_upper = text.chars().any(|c| c.is_ascii_uppercase());
    text.contains(['.', ':']) || text == "localhost" || is_upper
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) if text.starts_with('[') => (&text[1..end], &text[end + 1..]),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let is_good = match text.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => !host.is_empty() && !host.starts_with(['-', '.']) && host.chars().all(is_name),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    is_good && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_inner = |c: char| is_word(c) || c == '.' || c == '-';
    text.len() <= MAX_TAG && text.starts_with(is_word) && text.chars().all(is_inner)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_between = |text: &str| {
        matches!(text, "." | "_" | "__") || !text.is_empty() && text.chars().all(|c| c == '-')
    };
    let mut rest = text;
    loop {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            return false;
        }
        rest = &rest[end..];
        if rest.is_empty() {
            return true;
        }
        let begin = rest.find(is_word).unwrap_or(rest.len());
        if !is_between(&rest[..begin]) {
            return false;
        }
        rest = &rest[begin..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_skopeos() {
        let digest = "0123456789abcdef".repeat(4);
        for (text, host, path, name) in [
            ("docker://debian", "docker.io", "library/debian", "latest"),
            ("docker://a/b:1", "docker.io", "a/b", "1"),
            (
                "docker://docker.io/debian:12",
                "docker.io",
                "library/debian",
                "12",
            ),
            ("docker://localhost/a", "localhost", "a", "latest"),
            (
                "docker://localhost:5000/a/b:x_1.2-3",
                "localhost:5000",
                "a/b",
                "x_1.2-3",
            ),
            (
                "docker://h.example/a--b/c__d.e",
                "h.example",
                "a--b/c__d.e",
                "latest",
            ),
            ("docker://[::1]:5000/a:1", "[::1]:5000", "a", "1"),
            (
                &format!("docker://h.example/a@sha256:{digest}"),
                "h.example",
                "a",
                &format!("@sha256:{digest}"),
            ),
        ] {
            let found: Reference = text.parse().unwrap();
            assert_eq!(found.repository.host, host, "{text}");
            assert_eq!(found.repository.path, path, "{text}");
            assert_eq!(found.name.to_string(), name, "{text}");
            assert_eq!(found.to_string().parse(), Ok(found), "{text}");
        }
        let hub: Reference = "docker://debian".parse().unwrap();
        assert_eq!(hub.repository.server(), HUB_SERVER);
    }

    #[test]
    fn other_names_are_refused() {
        let digest = "0123456789abcdef".repeat(4);
        for bad in [
            "",
            "debian",
            "docker:debian",
            "docker://",
            "docker:///a",
            "docker://h.example/",
            "docker://h.example/A",
            "docker://h.example/a//b",
            "docker://h.example/a_-b",
            "docker://h.example/../b",
            "docker://h.example/a?b",
            "docker://u:p@h.example/a",
            "docker://h.example:port/a",
            "docker://h.example:70000/a",
            "docker://h.example:+5/a",
            "docker://[::1/a",
            "docker://h.example/a:",
            "docker://h.example/a:-b",
            "docker://h.example/a:b c",
            "docker://h.example/a@sha256:00",
            &format!("docker://h.example/a:1@sha256:{digest}"),
            &format!("docker://h.example/a:{}", "x".repeat(129)),
            &format!("docker://h.example/{}", "x".repeat(256)),
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
