// SPDX-License-Identifier: Apache-2.0

//! Manifests against serde_json.

use format_tests::config;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use puzzlefs_format::{blob_kind, BlobKind, Digest, Error, Manifest, MEDIA_TYPE_CHUNK_ZSTD};
use puzzlefs_format::{
    ANNOTATION_FS_VERITY, MEDIA_TYPE_CHUNK, MEDIA_TYPE_MANIFEST, MEDIA_TYPE_ROOTFS,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A manifest, as serde_json reads it: like ours it refuses a key that comes twice
/// only if it knows it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Plain {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<PlainDescriptor>,
    layers: Vec<PlainDescriptor>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct PlainDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, rename = "annotations", deserialize_with = "fs_verity")]
    fs_verity: Option<String>,
}

/// The one annotation that we know. In place of annotations there may be anything.
fn fs_verity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Annotations {
        Object {
            #[serde(rename = "io.puzzlefsoci.puzzlefs.fs_verity")]
            fs_verity: Option<String>,
        },
        Other(IgnoredAny),
    }
    Ok(match Annotations::deserialize(from)? {
        Annotations::Object { fs_verity } => fs_verity,
        Annotations::Other(_) => None,
    })
}

/// What ours makes of the same.
fn plain(manifest: &Manifest<'_>) -> (Option<PlainDescriptor>, Vec<PlainDescriptor>) {
    let plain = |descriptor: puzzlefs_format::Descriptor<'_>| PlainDescriptor {
        media_type: descriptor.media_type.to_string(),
        digest: format!("sha256:{}", descriptor.digest),
        size: descriptor.size,
        fs_verity: descriptor.fs_verity.map(|digest| digest.to_string()),
    };
    let layers = manifest.layers().map(|layer| plain(layer.unwrap()));
    (manifest.config().map(plain), layers.collect())
}

/// JSON text in the making: how it is spelled depends on `style`, used up bit by bit.
struct Writer {
    text: String,
    style: u64,
}

impl Writer {
    fn choose(&mut self, n: u64) -> u64 {
        self.style = self
            .style
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        (self.style >> 33) % n
    }

    fn space(&mut self) {
        let space = ["", "", "", " ", "\n\t", "\r\n  "][self.choose(6) as usize];
        self.text.push_str(space);
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for c in string.chars() {
            let style = self.choose(4);
            match c {
                '\n' if style == 1 => self.text.push_str("\\n"),
                '\x20'.. if style > 0 => {
                    let escaped = matches!(c, '"' | '\\') || (c == '/' && style == 1);
                    self.text.push_str(if escaped { "\\" } else { "" });
                    self.text.push(c);
                }
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.text += &format!("\\u{unit:04x}");
                    }
                }
            }
        }
        self.text.push('"');
    }

    fn value(&mut self, value: &Value) {
        self.space();
        match value {
            Value::String(string) => self.string(string),
            Value::Array(elements) => {
                self.text.push('[');
                for (i, element) in elements.iter().enumerate() {
                    self.text.push_str(if i > 0 { "," } else { "" });
                    self.value(element);
                }
                self.space();
                self.text.push(']');
            }
            Value::Object(members) => {
                self.text.push('{');
                let mut members: Vec<_> = members.iter().collect();
                while !members.is_empty() {
                    let at = self.choose(members.len() as u64) as usize;
                    let (key, value) = members.swap_remove(at);
                    self.space();
                    self.string(key);
                    self.space();
                    self.text.push(':');
                    self.value(value);
                    self.text
                        .push_str(if members.is_empty() { "" } else { "," });
                }
                self.space();
                self.text.push('}');
            }
            other => self.text += &other.to_string(),
        }
        self.space();
    }
}

fn write(value: &Value, style: u64) -> String {
    let mut writer = Writer {
        text: String::new(),
        style,
    };
    writer.value(value);
    writer.text
}

/// Values for keys that no reader knows.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn with_unknown(known: Value, unknown: Vec<(String, Value)>) -> Value {
    let Value::Object(mut members) = known else {
        unreachable!()
    };
    for (key, value) in unknown {
        members.entry(format!("x{key}")).or_insert(value);
    }
    Value::Object(members)
}

fn unknown() -> impl Strategy<Value = Vec<(String, Value)>> {
    vec((any::<String>(), any_value()), 0..3)
}

/// Annotations as they may be, ours among them or not, and what stands in their place.
fn annotations() -> impl Strategy<Value = Value> {
    let object =
        (option::of(any::<[u8; 32]>()), unknown()).prop_map(|(digest, unknown)| match digest {
            Some(digest) => {
                let digest = Digest::from_bytes(digest).to_string();
                with_unknown(serde_json::json!({ ANNOTATION_FS_VERITY: digest }), unknown)
            }
            None => with_unknown(serde_json::json!({}), unknown),
        });
    prop_oneof![4 => object, 1 => Just(Value::Null), 1 => any_value()]
}

fn descriptor(media_type: impl Strategy<Value = String>) -> impl Strategy<Value = Value> {
    let rest = (option::of(annotations()), unknown());
    (media_type, any::<[u8; 32]>(), any::<u64>(), rest).prop_map(
        |(media_type, digest, size, (annotations, unknown))| {
            let digest = format!("sha256:{}", Digest::from_bytes(digest));
            let mut known =
                serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size });
            if let Some(annotations) = annotations {
                known["annotations"] = annotations;
            }
            with_unknown(known, unknown)
        },
    )
}

fn chunk() -> impl Strategy<Value = Value> {
    descriptor(prop_oneof![
        Just(MEDIA_TYPE_CHUNK.to_owned()),
        Just(MEDIA_TYPE_CHUNK_ZSTD.to_owned()),
        any::<String>(),
    ])
}

fn manifest() -> impl Strategy<Value = Value> {
    (
        option::of(Just(MEDIA_TYPE_MANIFEST)),
        option::of(descriptor(any::<String>())),
        descriptor(Just(MEDIA_TYPE_ROOTFS.to_owned())),
        (vec(chunk(), 0..5), any::<Index>()),
        unknown(),
    )
        .prop_map(|(media_type, config, rootfs, (mut layers, at), unknown)| {
            layers.insert(at.index(layers.len() + 1), rootfs);
            let mut known = serde_json::json!({ "schemaVersion": 2, "layers": layers });
            if let Some(media_type) = media_type {
                known["mediaType"] = media_type.into();
            }
            if let Some(config) = config {
                known["config"] = config;
            }
            with_unknown(known, unknown)
        })
}

/// What ours accepts serde_json reads alike.
fn agree(text: &[u8]) -> Result<(), Error> {
    let manifest = Manifest::parse(text)?;
    let theirs: Plain = serde_json::from_slice(text).expect("serde_json accepts it, too");
    assert_eq!(theirs.schema_version, 2);
    assert!(theirs.media_type.is_none_or(|t| t == MEDIA_TYPE_MANIFEST));
    let rootfs: Vec<_> = theirs
        .layers
        .iter()
        .filter(|layer| layer.media_type == MEDIA_TYPE_ROOTFS)
        .map(|layer| layer.digest.as_str())
        .collect();
    assert_eq!(rootfs, [format!("sha256:{}", manifest.rootfs().digest)]);
    assert_eq!(plain(&manifest), (theirs.config, theirs.layers));
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn valid(manifest in manifest(), style: u64) {
        let text = write(&manifest, style);
        prop_assert_eq!(blob_kind(text.as_bytes()), Ok(BlobKind::Manifest));
        prop_assert_eq!(agree(text.as_bytes()), Ok(()), "{}", text);
    }

    #[test]
    fn damaged(
        manifest in manifest(),
        style: u64,
        damage in vec((any::<Index>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b','), Just(b'}')]), 1..4),
        cut: Option<Index>,
    ) {
        let mut text = write(&manifest, style).into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text.truncate(cut.map_or(text.len(), |at| at.index(text.len())));
        let _ = agree(&text);
    }

    /// What is no digest is refused, whatever else there is.
    #[test]
    fn annotation_is_a_digest(
        text in prop_oneof![any_value(), "[0-9a-fA-F]{63,65}".prop_map(Value::from)],
        again: bool,
    ) {
        let digest = format!("sha256:{}", "0".repeat(64));
        let annotation = |value: &Value| format!("{:?}: {value}", ANNOTATION_FS_VERITY);
        let mut annotations = annotation(&text);
        if again {
            annotations = format!("{annotations}, {annotations}");
        }
        let manifest = format!(
            r#"{{"schemaVersion": 2, "layers": [{{"mediaType": "{MEDIA_TYPE_ROOTFS}",
            "digest": "{digest}", "size": 1, "annotations": {{{annotations}}}}}]}}"#
        );
        let is_digest = text.as_str().is_some_and(|text| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let found = Manifest::parse(manifest.as_bytes()).map(|m| m.rootfs().fs_verity);
        match (is_digest, again) {
            (false, _) => prop_assert_eq!(found, Err(Error::BadDigest)),
            (true, true) => prop_assert_eq!(found, Err(Error::BadManifest)),
            (true, false) => {
                let want = Digest::parse(text.as_str().unwrap().as_bytes()).unwrap();
                prop_assert_eq!(found, Ok(Some(want)));
            }
        }
    }

    /// Text of JSON's own characters.
    #[test]
    fn random(text in vec(proptest::sample::select(&b"{}[]\",:\\u0e-.tfn1 "[..]), 0..60)) {
        let _ = agree(&text);
        // Behind a key that is skipped, serde_json is the judge of what is JSON.
        let inner = String::from_utf8(text).unwrap();
        let text = format!("{{\"x\":{inner}}}");
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        match Manifest::parse(text.as_bytes()) {
            // Halves of surrogate pairs, which serde_json skips, are no JSON to us.
            Err(Error::BadJson) => prop_assert!(!is_json || text.contains("\\u")),
            Err(error) => prop_assert!(is_json, "{}: {:?}", text, error),
            Ok(_) => prop_assert!(false, "{}", text),
        }
    }
}
