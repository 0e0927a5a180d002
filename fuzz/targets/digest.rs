// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! Digests in hexadecimal, and the first bytes of a blob.
//!
//! - A text is a digest exactly if it is 64 digits, lower case, with `sha256:` in front or not;
//!   written again it is those digits.
//! - A blob is a manifest or a Rootfs by its first four bytes alone, and never both.

use libfuzzer_sys::fuzz_target;
use puzzlefs_format::{blob_kind, BlobKind, Digest, Manifest, Rootfs};

fuzz_target!(|data: &[u8]| {
    let hex = data.strip_prefix(b"sha256:").unwrap_or(data);
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let parsed = Digest::parse(data);
    assert_eq!(parsed.is_ok(), hex.len() == 64 && hex.iter().all(is_digit));
    if let Ok(digest) = parsed {
        assert_eq!(digest.to_hex()[..], *hex);
        assert_eq!(digest.to_string().as_bytes(), hex);
        assert_eq!(Digest::from_bytes(*digest.as_bytes()), digest);
    }
    if let Some(bytes) = data.first_chunk() {
        let digest = Digest::from_bytes(*bytes);
        assert_eq!(Digest::parse(&digest.to_hex()), Ok(digest));
    }
    let kind = blob_kind(data);
    assert_eq!(kind, blob_kind(&data[..data.len().min(4)]));
    match kind {
        Ok(BlobKind::Manifest) => assert!(Rootfs::parse(data).is_err()),
        Ok(BlobKind::Rootfs) => assert!(Manifest::parse(data).is_err()),
        Err(_) => assert!(Rootfs::parse(data).is_err() && Manifest::parse(data).is_err()),
    }
});
