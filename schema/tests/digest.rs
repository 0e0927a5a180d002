// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Digests as text.

use puzzlefs_format::{Digest, Error};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn round_trip() {
    let digest = Digest::parse(EMPTY.as_bytes()).unwrap();
    assert_eq!(digest.as_bytes()[..3], [0xe3, 0xb0, 0xc4]);
    assert_eq!(
        Digest::parse(format!("sha256:{EMPTY}").as_bytes()),
        Ok(digest)
    );
    assert_eq!(digest.to_string(), EMPTY);
    assert_eq!(digest.to_hex(), EMPTY.as_bytes());

    // Every digit in either place.
    let bytes = std::array::from_fn(|i| u8::try_from((i * 0x11 % 0x100) ^ i).unwrap());
    let digest = Digest::from_bytes(bytes);
    assert_eq!(Digest::parse(&digest.to_hex()), Ok(digest));
}

#[test]
fn refused() {
    for text in [
        "",
        "sha256:",
        &EMPTY[1..],
        &format!("{EMPTY}0"),
        &EMPTY.to_uppercase(),
        &EMPTY.replace('e', "g"),
        &EMPTY.replace('e', "/"),
        &EMPTY.replace('e', ":"),
        &EMPTY.replace('e', "`"),
        &format!("sha512:{EMPTY}"),
        &format!("SHA256:{EMPTY}"),
        &format!(" {EMPTY}"),
    ] {
        assert_eq!(
            Digest::parse(text.as_bytes()),
            Err(Error::BadDigest),
            "{text:?}"
        );
    }
}
