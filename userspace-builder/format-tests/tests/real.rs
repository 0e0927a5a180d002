// SPDX-License-Identifier: Apache-2.0

//! The metadata of real images, ours and upstream's.

use format_tests::agree::{agree, Expect};
use puzzlefs_format::{Manifest, Rootfs};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Reads all images of the OCI layouts that `PUZZLEFS_LAYOUTS` names, `:` between them.
#[test]
#[ignore = "needs layouts: PUZZLEFS_LAYOUTS=DIR:DIR... cargo test --test real -- --ignored"]
fn layouts() {
    let layouts = std::env::var("PUZZLEFS_LAYOUTS").expect("PUZZLEFS_LAYOUTS is set");
    for layout in layouts.split(':') {
        let index = fs::read(Path::new(layout).join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let manifests = index["manifests"].as_array().expect("manifests");
        assert!(!manifests.is_empty(), "{layout} is empty");
        for manifest in manifests {
            let digest = manifest["digest"].as_str().expect("digest");
            let manifest = blob(layout, digest.strip_prefix("sha256:").unwrap());
            let manifest = Manifest::parse(&manifest).expect(digest);
            let rootfs = blob(layout, &manifest.rootfs().digest.to_string());
            let inodes = agree(&rootfs, Expect::Valid);
            let layers = Rootfs::parse(&rootfs).unwrap().layers();
            println!("{layout} {digest}: {inodes} inodes in {layers} layers agree");
        }
    }
}

fn blob(layout: &str, digest: &str) -> Vec<u8> {
    let path = Path::new(layout).join("blobs/sha256").join(digest);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
