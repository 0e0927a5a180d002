// SPDX-License-Identifier: Apache-2.0
//! Addresses that a server names, and where they lead.

use std::fmt;

use ureq::http::Uri;

use crate::base::error::{Error, Result};
use crate::base::text;

/// Bytes of an address, at most: signed ones have some 2,000.
const MAX_BYTES: usize = 16 << 10;

/// An absolute address of http or https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// Takes an absolute one.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            let text: String = text.chars().take(200).collect();
            Error::damaged(format!(
                "the server names an address that is none: {}",
                text::quoted(text.as_bytes())
            ))
        };
        if text.len() > MAX_BYTES {
            return Err(wrong());
        }
        // What stands behind # is for the client alone.
        let uri: Uri = text
            .split('#')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        // Credentials come from files of ours only.
        if !is_http || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        Ok(Url(uri))
    }

    /// Where `location`, which an answer from this address has, leads: RFC 3986, section 5.
    pub fn join(&self, location: &str) -> Result<Self> {
        let origin = self.origin();
        let path = self.0.path();
        let joined = if location.contains("://") && !location.starts_with(['/', '?']) {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{}://{rest}", self.scheme())
        } else if location.starts_with('/') {
            format!("{origin}{location}")
        } else if location.starts_with('?') {
            format!("{origin}{path}{location}")
        } else {
            let dir = path.rfind('/').map_or("", |at| &path[..at]);
            format!("{origin}{dir}/{location}")
        };
        let to = Self::parse(&joined)?;
        if self.scheme() == "https" && to.scheme() != "https" {
            let text = format!(
                "{origin} leads from https to plain http, at {}",
                to.origin()
            );
            return Err(Error::refused(text));
        }
        Ok(to)
    }

    /// The same with one parameter more in the query.
    pub fn with(&self, name: &str, value: &str) -> Result<Self> {
        let text = self.0.to_string();
        let between = match self.0.query() {
            Some(_) => '&',
            None => '?',
        };
        Self::parse(&format!("{text}{between}{name}={}", escaped(value)))
    }

    fn scheme(&self) -> &str {
        self.0.scheme_str().unwrap_or_default()
    }

    /// Whether it goes over TLS.
    pub fn is_https(&self) -> bool {
        self.scheme() == "https"
    }

    /// The host, without the port and without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The host and the port, if one is named.
    pub fn authority(&self) -> &str {
        self.0
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    /// The path, which begins with a slash.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Whether it has a query.
    pub fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    /// The port, which need not be named.
    pub fn port(&self) -> u16 {
        let usual = if self.is_https() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(usual)
    }

    /// Scheme, host and port: what is equal is one server.
    pub fn origin(&self) -> String {
        let host = self.0.host().unwrap_or_default().to_ascii_lowercase();
        format!("{}://{host}:{}", self.scheme(), self.port())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value of a query.
pub fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let url = Url::parse("https://h.example:5000/v2/a/blobs/x?y=1").unwrap();
        for (location, to) in [
            ("/v2/b?z=1", "https://h.example:5000/v2/b?z=1"),
            ("other", "https://h.example:5000/v2/a/blobs/other"),
            ("?z=2", "https://h.example:5000/v2/a/blobs/x?z=2"),
            ("//cdn.example/x", "https://cdn.example/x"),
            (
                "https://cdn.example/x?u=http://a/#f",
                "https://cdn.example/x?u=http://a/",
            ),
            ("/x?u=http://a/", "https://h.example:5000/x?u=http://a/"),
        ] {
            assert_eq!(url.join(location).unwrap().to_string(), to);
        }
        for bad in [
            "http://h.example:5000/v2/a",
            "ftp://x/",
            "https://u:p@h.example/",
            "https:///x",
            "/a b",
        ] {
            assert!(url.join(bad).is_err(), "{bad}");
        }
        let long = format!("/{}", "x".repeat(MAX_BYTES));
        assert!(url.join(&long).is_err());
        let with = url.with("digest", "sha256:0").unwrap();
        assert_eq!(
            with.to_string(),
            "https://h.example:5000/v2/a/blobs/x?y=1&digest=sha256%3A0"
        );
    }

    #[test]
    fn an_origin_is_a_server() {
        let origin = |text| Url::parse(text).unwrap().origin();
        assert_eq!(
            origin("https://H.example/a"),
            origin("https://h.example:443/b")
        );
        assert_ne!(
            origin("https://h.example/"),
            origin("https://h.example:5000/")
        );
        assert_ne!(origin("http://h.example/"), origin("https://h.example/"));
        assert_ne!(
            origin("https://h.example/"),
            origin("https://h.example.evil/")
        );
    }
}
