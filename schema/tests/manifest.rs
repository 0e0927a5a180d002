// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! Manifests that are in order, and such that are not.

use puzzlefs_format::{limits, Error, Manifest, MEDIA_TYPE_CHUNK};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A descriptor of the Rootfs.
fn rootfs() -> String {
    format!(
        r#"{{"mediaType":"application/vnd.puzzlefs.image.rootfs.v1","digest":"sha256:{HEX}","size":7}}"#
    )
}

fn chunk() -> String {
    rootfs().replace("rootfs.v1", "filedata.v1")
}

fn error(text: &str) -> Option<Error> {
    Manifest::parse(text.as_bytes()).err()
}

/// The error for a manifest with these layers and other members.
fn with(layers: &str, others: &str) -> Option<Error> {
    error(&format!(
        r#"{{"schemaVersion":2,"layers":[{layers}]{others}}}"#
    ))
}

#[test]
fn reads_what_it_says() {
    let text = format!(
        r#"{{"layers":[{},{}],"config":{},"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}}"#,
        chunk(),
        rootfs(),
        chunk().replace("size\":7", "size\":2")
    );
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    assert_eq!(manifest.rootfs().size, 7);
    assert_eq!(manifest.rootfs().digest.to_string(), HEX);
    assert_eq!(manifest.config().unwrap().size, 2);
    let layers: Vec<_> = manifest.layers().map(Result::unwrap).collect();
    assert_eq!(layers.len(), 2);
    assert!(layers[0].media_type == MEDIA_TYPE_CHUNK);
    assert_eq!(layers[0].media_type.to_string(), MEDIA_TYPE_CHUNK);
}

#[test]
fn escapes_mean_what_they_stand_for() {
    let escaped = rootfs()
        .replace("application/", r"application\/")
        .replace("mediaType", r"medi\u0061Type")
        .replace("sha256:e3", r"sha256\u003Ae\u0033");
    assert_eq!(with(&escaped, ""), None);
    assert_eq!(with(&escaped, r#","layers":[]"#), Some(Error::BadManifest));
    assert_eq!(
        with(&escaped, r#","lay\u0065rs":[]"#),
        Some(Error::BadManifest)
    );
}

#[test]
fn layers() {
    assert_eq!(with(&rootfs(), ""), None);
    assert_eq!(with("", ""), Some(Error::NoRootfs));
    assert_eq!(with(&chunk(), ""), Some(Error::NoRootfs));
    let two = format!("{},{},{}", rootfs(), chunk(), rootfs());
    assert_eq!(with(&two, ""), Some(Error::SeveralRootfs));
    // Rootfs behind a chunk.
    assert_eq!(with(&format!("{},{}", chunk(), rootfs()), ""), None);
}

#[test]
fn not_a_manifest() {
    let layers = rootfs();
    for text in [
        "{}".into(),
        r#"{"schemaVersion":2}"#.into(),
        format!(r#"{{"layers":[{layers}]}}"#),
        format!(r#"{{"schemaVersion":1,"layers":[{layers}]}}"#),
        format!(r#"{{"schemaVersion":2,"schemaVersion":2,"layers":[{layers}]}}"#),
        format!(r#"{{"schemaVersion":2.0,"layers":[{layers}]}}"#),
        format!(r#"{{"schemaVersion":-2,"layers":[{layers}]}}"#),
        format!(r#"{{"schemaVersion":18446744073709551618,"layers":[{layers}]}}"#),
        format!(r#"{{"schemaVersion":2,"mediaType":"application/json","layers":[{layers}]}}"#),
    ] {
        assert_eq!(error(&text), Some(Error::BadManifest), "{text}");
    }
    for (from, to, expected) in [
        ("\"size\":7", "\"size\":7,\"size\":7", Error::BadManifest),
        ("\"size\":7", "\"sice\":7", Error::BadManifest),
        ("digest", "dihest", Error::BadManifest),
        ("mediaType", "mediatype", Error::BadManifest),
        ("sha256:", "", Error::BadDigest),
        ("sha256:", "sha512:", Error::BadDigest),
        ("b855", "b8550", Error::BadDigest),
        ("b855", "b85", Error::BadDigest),
        ("b855", "B855", Error::BadDigest),
    ] {
        assert_eq!(
            with(&rootfs().replacen(from, to, 1), ""),
            Some(expected),
            "{to}"
        );
    }
}

/// Values of a key that is skipped: JSON or not.
#[test]
fn json() {
    let value = |text: &str| with(&rootfs(), &format!(r#","x":{text}"#));
    for good in [
        "null",
        "true",
        " false ",
        "0",
        "-0",
        "12",
        "-1.5",
        "1e9",
        "1E+9",
        "0.5e-10",
        "[]",
        "{}",
        "[1,[2,{}],\"\"]",
        r#"{"a":{"b":[{"c":1}],"d":{}}}"#,
        r#""\"\\\/\b\f\n\r\t\u00e9""#,
        "\"\u{7f}\u{e9}\u{1f600}\"",
        r#""\ud83d\ude00""#,
        "{\"schemaVersion\":3}",
        "\n[\t1\r,2 ]",
    ] {
        assert_eq!(value(good), None, "{good}");
    }
    for bad in [
        "",
        "nul",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[1}",
        "{\"a\":1]",
        "\"",
        "\"\n\"",
        "\"\0\"",
        r#""\""#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83d\u0041""#,
        r#""\ud83dx""#,
        r#""\ud83dxxde00""#,
        r#""\ud83d\nde00""#,
        "'a'",
        "1,",
        "null null",
        "\u{a0}1",
    ] {
        assert_eq!(value(bad), Some(Error::BadJson), "{bad}");
    }
    let text = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, rootfs());
    assert_eq!(error(&format!("{text}\n ")), None);
    assert_eq!(error(&format!("{text}}}")), Some(Error::BadJson));
    assert_eq!(error(&format!("{text}{text}")), Some(Error::BadJson));
    assert_eq!(error(&format!("\u{feff}{text}")), Some(Error::BadJson));
    assert_eq!(error(""), Some(Error::BadJson));
    assert_eq!(Manifest::parse(b"{\"\xff\":1}").err(), Some(Error::BadJson));
}

#[test]
fn limits_hold() {
    let nested = |depth: usize, open: &str, close: &str| {
        let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        with(&rootfs(), &format!(r#","x":{value}"#))
    };
    let max = usize::try_from(limits::MAX_JSON_DEPTH).unwrap();
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        assert_eq!(nested(max, open, close), None);
        assert_eq!(nested(max + 1, open, close), Some(Error::LimitExceeded));
        assert_eq!(nested(1_000_000, open, close), Some(Error::LimitExceeded));
    }
    // Objects and arrays in turn, as deep as may be: each end is of the right kind.
    assert_eq!(nested(max / 2, r#"[{"a":"#, "}]"), None);
    assert_eq!(nested(max / 2, r#"[{"a":"#, "]}"), Some(Error::BadJson));

    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, rootfs());
    let space = " ".repeat(limits::MAX_MANIFEST_BYTES - manifest.len());
    let padded = manifest + &space;
    assert_eq!(error(&padded), None);
    assert_eq!(error(&format!("{padded} ")), Some(Error::LimitExceeded));
}
