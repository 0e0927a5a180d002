// SPDX-License-Identifier: Apache-2.0
#![no_main]

//! A manifest, against serde_json.
//!
//! - Layers are the same, called for one by one or gone through afterwards, with exactly one
//!   Rootfs among them, which is the one that is named.
//! - What we accept serde_json reads alike.
//! - What we take for malformed JSON serde_json does not read either, but for halves of surrogate
//!   pairs, which it lets pass in what it skips.

use libfuzzer_sys::fuzz_target;
use puzzlefs_format::{Descriptor, Error, Manifest, MEDIA_TYPE_ROOTFS};
use serde::{Deserialize, Deserializer};

/// A manifest as serde_json reads it, which like ours refuses a key that comes twice only if it
/// knows it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain {
    #[serde(default, deserialize_with = "present")]
    media_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    config: Option<PlainDescriptor>,
    layers: Vec<PlainDescriptor>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct PlainDescriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// A value that is not `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Whether there is an escape in `text` that may be half of a surrogate pair.
fn has_surrogate(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "\\ud8", "\\ud9", "\\uda", "\\udb", "\\udc", "\\udd", "\\ude", "\\udf",
    ]
    .iter()
    .any(|half| text.contains(half))
}

fn plain(descriptor: &Descriptor<'_>) -> PlainDescriptor {
    PlainDescriptor {
        media_type: descriptor.media_type.to_string(),
        digest: format!("sha256:{}", descriptor.digest),
        size: descriptor.size,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut each = Vec::new();
    let ours = Manifest::parse_each(bytes, |layer| {
        each.push(plain(layer));
        Ok(())
    });
    let Ok(text) = std::str::from_utf8(bytes) else {
        return assert_eq!(ours.err(), Some(Error::BadJson));
    };
    let theirs = serde_json::from_str::<Plain>(text);
    let ours = match ours {
        Ok(ours) => ours,
        Err(Error::BadJson) => return assert!(theirs.is_err() || has_surrogate(text)),
        Err(_) => return,
    };
    let layers: Vec<_> = ours
        .layers()
        .map(|layer| plain(&layer.expect("it was parsed")))
        .collect();
    assert_eq!(layers, each);
    let mut of_rootfs = layers.iter().filter(|l| l.media_type == MEDIA_TYPE_ROOTFS);
    assert_eq!(of_rootfs.next(), Some(&plain(&ours.rootfs())));
    assert_eq!(of_rootfs.next(), None);

    let theirs = theirs.expect("what we accept");
    assert_eq!(theirs.layers, layers);
    assert_eq!(theirs.config, ours.config().map(|config| plain(&config)));
    drop(theirs.media_type);
});
