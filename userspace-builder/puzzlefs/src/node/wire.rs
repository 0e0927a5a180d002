// SPDX-License-Identifier: Apache-2.0
//! What is said at the socket. The client begins, with a line that says the version of all this and which image it wants,
//! by its digest: `puzzlefs 1 docker://HOST/REPOSITORY@sha256:DIGEST`. Then a byte says what comes: see [`Said`].

#[cfg(feature = "command")]
use crate::layout::reference::Name;
use crate::registry::Reference;

/// What a request begins with.
const VERSION: &str = "puzzlefs 1 ";
/// Bytes of a request, at most.
#[cfg(feature = "command")]
pub(super) const MAX_REQUEST: usize = 1024;
/// Bytes of the text of a refusal that are heard, at most.
pub(super) const MAX_TEXT: u64 = 16 << 10;

/// What is said, a byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Said {
    /// By the service: the image is here.
    Ready = b'r',
    /// By the client, with a user namespace: whose numbers the owners of files are to be.
    Namespace = b'u',
    /// By the service, with a mount that is nowhere yet: it is the client's.
    Mount = b'm',
    /// By the service, before a text and the end: it is not done, and why.
    Refused = b'x',
}

/// The line of a request.
pub(super) fn request(image: &Reference) -> String {
    format!("{VERSION}{image}\n")
}

/// What a line asks for.
#[cfg(feature = "command")]
pub(super) fn asked(line: &[u8]) -> Result<(Reference, puzzlefs_format::Digest), String> {
    let line = std::str::from_utf8(line).map_err(|_| "a request that is no text")?;
    let image = line
        .strip_prefix(VERSION)
        .ok_or("a request of another version")?;
    let image: Reference = image.parse()?;
    match image.name {
        Name::Digest(digest) => Ok((image, digest)),
        Name::Tag(_) => Err("an image is asked for by its digest only".into()),
    }
}

#[cfg(all(test, feature = "command"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_understood() {
        let text = format!("docker://h.example:5000/a/b@sha256:{}", "07".repeat(32));
        let image: Reference = text.parse().unwrap();
        let line = request(&image);
        let (found, digest) = asked(line.trim_end().as_bytes()).unwrap();
        assert_eq!((found, digest.to_string()), (image, "07".repeat(32)));
        for wrong in [
            "",
            "puzzlefs 1 ",
            "puzzlefs 1 docker://h.example/a:tag",
            "puzzlefs 1 oci:/var/lib/images:tag",
            "puzzlefs 1 ssh://h.example/a@sha256:07",
            &text,
            &line.replace('1', "2"),
            &line.replace("07", "0"),
            &line.replace("/a/", "/../"),
            &line.replace("h.example", ""),
        ] {
            assert!(asked(wrong.trim_end().as_bytes()).is_err(), "{wrong}");
        }
        assert!(asked(b"puzzlefs 1 docker://\xff/a").is_err());
        assert!(line.len() < MAX_REQUEST);
    }
}
