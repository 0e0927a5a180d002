// SPDX-License-Identifier: Apache-2.0
//! What mount.puzzlefs hands to the kernel. It mounts nothing here: mount(8) has an option for that.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::common::command::{success, PUZZLEFS};
use crate::common::pulls::{manifest, pull, versions};
use crate::common::scratch;

/// The options for the kernel.
fn options(args: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.args([
        "60",
        "bash",
        "-c",
        "exec -a mount.puzzlefs \"$0\" \"$@\"",
        PUZZLEFS,
    ]);
    command
        .args(["none", "/mnt", "-f", "-v"])
        .args(args)
        .process_group(0);
    success(&command.output().unwrap())
}

fn named(layout: &Path, manifest: &str) -> String {
    let dir = layout.display();
    options(&[
        "-o",
        &format!("oci_root_dir={dir},image_manifest={manifest},nosuid"),
    ])
}

/// The digest that the registry has is the one that people know, and a pull need not have stored all
/// that it lists.
#[test]
fn a_pulled_manifest_is_mounted_by_the_one_that_stands_for_it() {
    let dir = scratch();
    let (one, two) = versions(dir.path(), 30);
    let layout = dir.path().join("layout");
    pull(&one, &layout, "v1");
    let report = pull(&two, &layout, "v2");
    assert!(!report.complete);
    let (pulled, local) = (report.manifest, report.local_manifest);
    assert_eq!(manifest(&layout, "v2"), local);
    let with = |digest: &str| format!("image_manifest={digest}\n");
    for name in [pulled.clone(), format!("sha256:{pulled}")] {
        let said = named(&layout, &name);
        assert!(said.ends_with(&with(&local)), "{said}");
        assert_eq!(said.matches("image_manifest").count(), 1, "{said}");
    }
    // Whatever else is named stays as it is.
    let rootfs = crate::common::open(&layout, "v2")
        .rootfs_digest()
        .to_string();
    let first = manifest(&layout, "v1");
    let none = "0123456789abcdef".repeat(4);
    for name in [&local, &rootfs, &first, &none, "nothing", ""] {
        assert!(named(&layout, name).ends_with(&with(name)), "{name}");
    }
    let missing = named(&dir.path().join("none"), &pulled);
    assert!(missing.ends_with(&with(&pulled)), "{missing}");
    // An annotation alone is not believed: without the pulled manifest nothing stands for it.
    fs::remove_file(layout.join("blobs/sha256").join(&pulled)).unwrap();
    assert!(named(&layout, &pulled).ends_with(&with(&pulled)));
}
