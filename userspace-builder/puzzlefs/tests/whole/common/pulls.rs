// SPDX-License-Identifier: Apache-2.0
//! Images to pull, and what a layout is afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use puzzlefs::base::digest::sha256;
use puzzlefs::base::progress::Silent;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::pull::{find, Report};
use puzzlefs::remote::Remote;
use puzzlefs::source::Platform;

use super::layout::blobs;
use super::remote::{Liar, Lie};
use super::{build_into, noise, open, options};

/// A tag.
pub fn name(tag: &str) -> Name {
    Name::Tag(tag.into())
}

/// Pulls `what` of `remote` as `dir:tag`.
pub fn pull_from(
    remote: &dyn Remote,
    what: &Name,
    dir: &Path,
    tag: &str,
) -> puzzlefs::Result<Report> {
    let found = find(remote, what, &Platform::here())?;
    let layout = Layout::open_or_create(dir)?;
    found.pull(&layout, tag, None, &Silent)
}

/// Pulls `from:tag` as `dir:tag`.
pub fn pull(from: &Path, dir: &Path, tag: &str) -> Report {
    pull_from(&Liar::new(from, Lie::None), &name(tag), dir, tag).unwrap()
}

/// A tree of `count` files of 200,000 bytes that do not compress, and small ones.
pub fn tree(root: &Path, count: u64) {
    fs::create_dir_all(root.join("small")).unwrap();
    for number in 0..count {
        fs::write(root.join(format!("{number:03}")), noise(200_000, number)).unwrap();
    }
    for number in 0..200 {
        let text = format!("small {number} ").repeat(100);
        fs::write(root.join(format!("small/{number}")), text).unwrap();
    }
}

/// Two versions of a tree, each built in a layout of its own: `one:v1` and `two:v2`. Of `count` files
/// every tenth differs.
pub fn versions(dir: &Path, count: u64) -> (PathBuf, PathBuf) {
    let root = dir.join("root");
    tree(&root, count);
    build_into(&root, &dir.join("one"), "v1", &options());
    for number in (0..count).step_by(10) {
        fs::write(
            root.join(format!("{number:03}")),
            noise(200_000, number + 1_000),
        )
        .unwrap();
    }
    build_into(&root, &dir.join("two"), "v2", &options());
    (dir.join("one"), dir.join("two"))
}

/// The digest of the manifest of `dir:tag`.
pub fn manifest(dir: &Path, tag: &str) -> String {
    open(dir, tag).manifest_digest().to_string()
}

/// All blobs have the content that their names say.
pub fn assert_whole(layout: &Path) {
    for name in blobs(layout).into_keys() {
        let content = fs::read(layout.join("blobs/sha256").join(&name)).unwrap();
        assert_eq!(sha256(&[&content]).to_string(), name);
    }
}
