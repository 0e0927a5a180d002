// SPDX-License-Identifier: Apache-2.0
//! What `puzzlefs serve` and who asks it say to each other, over a pair of pipes, mostly those of ssh.
//!
//! The server begins with [`HELLO`]. A request is a line, `manifest NAME` or `blob DIGEST SIZE START END`. The
//! answer is a line, `ok` with the media type of a manifest, or `error KIND TEXT`. Behind `ok` the bytes come in
//! frames: a length of four bytes, big endian, and so many bytes; a length of 0 is the end; behind
//! [`FAILED`] is the line of an error in place of the rest. Then the next request may come.

use std::io::{self, BufRead, Read, Write};
use std::ops::Range;

use puzzlefs_format::Digest;

use crate::base::error::Error;
use crate::base::text;
use crate::layout::reference::Name;

/// The first line of a server.
pub const HELLO: &str = "puzzlefs-serve 1";
/// The longest line, with its end, in bytes.
const MAX_LINE: u64 = 8 << 10;
/// The longest frame, in bytes.
pub const MAX_FRAME: usize = 256 << 10;
/// The length that says that the rest cannot be had.
pub const FAILED: u32 = u32::MAX;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A manifest or an index.
    Manifest(Name),
    /// The bytes of a blob in a range, which is said to have `size`.
    Blob {
        /// The blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// Those that are wanted.
        range: Range<u64>,
    },
}

impl Request {
    /// The line, without its end.
    pub fn line(&self) -> String {
        match self {
            Request::Manifest(name) => format!("manifest {name}"),
            Request::Blob {
                digest,
                size,
                range,
            } => {
                format!("blob {digest} {size} {} {}", range.start, range.end)
            }
        }
    }

    /// Reads a line. `None` if it is no request.
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        if kind == "manifest" {
            return Some(Request::Manifest(rest.parse().ok()?));
        }
        let mut words = rest.split(' ');
        let digest = Digest::parse(words.next()?.as_bytes()).ok()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (size, start, end) = (number()?, number()?, number()?);
        let is_it = kind == "blob" && start <= end && end <= size && words.next().is_none();
        is_it.then_some(Request::Blob {
            digest,
            size,
            range: start..end,
        })
    }
}

/// Reads a line without its end; `None` where there is nothing more.
///
/// # Errors
///
/// If it is longer than lines may be, is no UTF-8, or ends in its middle.
pub fn read_line(from: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if line.pop() != Some(b'\n') {
        return Err(invalid("a line has no end"));
    }
    let line = String::from_utf8(line);
    line.map(Some).map_err(|_| invalid("a line is no text"))
}

/// Writes the line of an error.
pub fn write_error(to: &mut dyn Write, error: &Error) -> io::Result<()> {
    let kind = match error {
        Error::Damaged(_) => "damaged",
        Error::NotFound(_) => "not-found",
        Error::Refused(_) => "refused",
        Error::Trouble(_) => "trouble",
    };
    let said: String = format!("{error:#}").chars().take(1000).collect();
    let said = said.replace(['\n', '\r'], " ");
    writeln!(to, "error {kind} {said}")
}

/// What the line of an error says; `None` if it is none. What it says comes from somebody else.
pub fn error_of(line: &str) -> Option<Error> {
    let (kind, said) = line.strip_prefix("error ")?.split_once(' ')?;
    let said = text::quoted(said.as_bytes());
    Some(match kind {
        "damaged" => Error::damaged(said),
        "not-found" => Error::not_found(said),
        "refused" => Error::refused(said),
        _ => Error::trouble(said),
    })
}

/// Writes a frame; an empty one is the end.
pub fn write_frame(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_be_bytes())?;
    to.write_all(bytes)
}

/// Reads the length of a frame.
pub fn read_length(from: &mut dyn Read) -> io::Result<u32> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    Ok(u32::from_be_bytes(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        let digest = Digest::from_bytes([7; 32]);
        for request in [
            Request::Manifest(Name::Tag("a:b/c".into())),
            Request::Manifest(Name::Digest(digest)),
            Request::Blob {
                digest,
                size: 9,
                range: 2..9,
            },
        ] {
            assert_eq!(Request::parse(&request.line()), Some(request));
        }
        let hex = "7".repeat(64);
        for bad in [
            "",
            "manifest",
            "manifest ",
            "manifest ../x",
            "blob",
            "tags",
            &format!("blob {hex} 9 2"),
            &format!("blob {hex} 9 2 10"),
            &format!("blob {hex} 9 3 2"),
            &format!("blob {hex} 9 2 9 1"),
            &format!("blob {hex} -1 0 0"),
            &format!("blob {} 9 2 9", &hex[1..]),
        ] {
            assert_eq!(Request::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_have_an_end() {
        let mut text = &b"a\nb"[..];
        assert_eq!(read_line(&mut text).unwrap(), Some("a".into()));
        assert!(read_line(&mut text).is_err());
        assert_eq!(read_line(&mut text).unwrap(), None);
        let long = vec![b'x'; 1 << 20];
        assert!(read_line(&mut &long[..]).is_err());
        let error = error_of("error damaged \u{1b}[31mred").unwrap();
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        assert!(error_of("ok").is_none() && error_of("error damaged").is_none());
    }
}
