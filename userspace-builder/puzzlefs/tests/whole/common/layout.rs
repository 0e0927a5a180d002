// SPDX-License-Identifier: Apache-2.0
//! Layouts from outside: what lies in them, and changes that no command makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use puzzlefs::base::digest::sha256;
use puzzlefs::layout::manifest::{render, Config, Descriptor};
use puzzlefs::layout::Layout;
use puzzlefs_format::{Digest, MEDIA_TYPE_PACK, MEDIA_TYPE_ROOTFS};
use serde_json::Value;

use super::open;

/// The names of all blobs, with their sizes.
pub fn blobs(layout: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let entries = entries.map(Result::unwrap).map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, entry.metadata().unwrap().len())
    });
    entries.collect()
}

/// The layers of `layout:tag` that are packs.
pub fn packs(layout: &Path, tag: &str) -> Vec<Digest> {
    let image = open(layout, tag);
    let layers = image.manifest().unwrap().layers().map(Result::unwrap);
    let packs = layers.filter(|layer| layer.media_type == MEDIA_TYPE_PACK);
    packs.map(|layer| layer.digest).collect()
}

/// Stores a blob; returns its digest and its size.
pub fn store(layout: &Path, content: &[u8]) -> (Digest, u64) {
    let digest = sha256(&[content]);
    let path = layout.join("blobs/sha256").join(digest.to_string());
    fs::write(path, content).unwrap();
    (digest, content.len() as u64)
}

/// Tags an image `bad` that is `good`, but for its Rootfs.
pub fn replace_rootfs(layout: &Path, rootfs: &[u8]) {
    let (digest, size) = store(layout, rootfs);
    let mut layers = vec![Descriptor::new(MEDIA_TYPE_ROOTFS, digest, size)];
    let good = open(layout, "good");
    for layer in good.manifest().unwrap().layers().skip(1) {
        let layer = layer.unwrap();
        let media_type = layer.media_type.to_string();
        layers.push(Descriptor::new(&media_type, layer.digest, layer.size));
    }
    let (manifest, size) = store(layout, &render(&layers, &Config::default(), None).unwrap());
    let layout = Layout::open(layout).unwrap();
    layout.set_tag("bad", &manifest, size).unwrap();
}

/// Changes the entries of index.json.
pub fn edit_index(layout: &Path, change: impl FnOnce(&mut Vec<Value>)) {
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(index["manifests"].as_array_mut().unwrap());
    fs::write(path, index.to_string()).unwrap();
}
