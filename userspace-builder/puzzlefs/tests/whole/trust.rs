// SPDX-License-Identifier: Apache-2.0
//! A layout that somebody else has made leads nowhere else, and holds nobody up.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::common::command::{failure, puzzlefs, success};
use crate::common::layout::{blobs, packs};
use crate::common::{build_into, faults, loose, noise, open, options, scratch};
use rustix::fs::{mknodat, FileType, Mode, CWD};

/// A tree, and a layout with two images of it.
fn two_images(dir: &Path) -> (PathBuf, PathBuf) {
    let (root, layout) = (dir.join("root"), dir.join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(300_000, 1)).unwrap();
    build_into(&root, &layout, "a", &options());
    fs::write(root.join("more"), noise(100_000, 2)).unwrap();
    build_into(&root, &layout, "b", &options());
    (root, layout)
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

/// What was made to wait for a new index.json is not written to.
#[test]
fn a_link_in_the_way_leads_to_no_victim() {
    let dir = scratch();
    let (root, layout) = two_images(dir.path());
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    let image = |tag: &str| format!("{}:{tag}", layout.display());
    let plant = || {
        for name in [".puzzlefs-new", ".puzzlefs-new-0000000000000000"] {
            symlink(&victim, layout.join(name)).unwrap();
        }
    };
    plant();
    success(&puzzlefs(&["rm", &image("a")]));
    plant();
    success(&puzzlefs(&["build", root.to_str().unwrap(), &image("c")]));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o640);
    let index = fs::symlink_metadata(layout.join("index.json")).unwrap();
    assert!(index.is_file());
    assert_eq!(faults(&layout, "c"), [""; 0]);
}

/// One of the layout's own files is a link: what that leads to is neither read nor changed.
#[test]
fn own_files_are_no_links() {
    let dir = scratch();
    let (_, layout) = two_images(dir.path());
    for name in ["index.json", "oci-layout"] {
        let (path, away) = (layout.join(name), dir.path().join(name));
        fs::rename(&path, &away).unwrap();
        symlink(&away, &path).unwrap();
        let before = fs::read(&away).unwrap();
        for command in ["inspect", "rm"] {
            let image = format!("{}:a", layout.display());
            let text = failure(&puzzlefs(&[command, &image]));
            assert!(text.contains("it is no regular file"), "{text}");
        }
        assert_eq!(fs::read(&away).unwrap(), before);
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
}

/// A FIFO without a writer, in the place of each file of a layout in turn.
#[test]
fn a_fifo_holds_nobody_up() {
    let dir = scratch();
    let (root, layout) = two_images(dir.path());
    let (dir_arg, image) = (layout.to_str().unwrap(), format!("{}:a", layout.display()));
    let mut paths: Vec<PathBuf> = ["index.json", "oci-layout"].map(|n| layout.join(n)).into();
    let image_a = open(&layout, "a");
    let digests = [
        *image_a.manifest_digest(),
        *image_a.rootfs_digest(),
        packs(&layout, "a")[0],
    ];
    let names = digests.iter().map(|digest| digest.to_string());
    paths.extend(names.map(|name| layout.join("blobs/sha256").join(name)));
    for path in paths {
        let away = dir.path().join("away");
        fs::rename(&path, &away).unwrap();
        fifo(&path);
        let out = dir.path().join("out");
        for args in [
            &["inspect", &image][..],
            &["verify", &image],
            &["extract", &image, out.to_str().unwrap()],
        ] {
            let text = failure(&puzzlefs(args));
            assert!(text.contains("no regular file"), "{args:?}: {text}");
            assert!(!text.contains("delete"), "{args:?}: {text}");
        }
        let _ = fs::remove_dir_all(&out);
        // These end too, in whichever way.
        for args in [
            &["gc", "--dry-run", dir_arg][..],
            &["du", dir_arg],
            &["tags", dir_arg],
        ] {
            assert_ne!(puzzlefs(args).status.code(), Some(124), "{args:?}");
        }
        let new = format!("{dir_arg}:new");
        let built = puzzlefs(&["build", root.to_str().unwrap(), &new]);
        assert_ne!(built.status.code(), Some(124), "{}", path.display());
        let _ = fs::remove_file(&path);
        fs::rename(&away, &path).unwrap();
    }
    success(&puzzlefs(&["verify", &image]));
}

/// A blob that is a link is not followed, by any reader, as the kernel does not: and nobody is
/// told to delete what it leads to. The next build puts a file there.
#[test]
fn a_blob_that_is_a_link_is_not_read_and_not_called_damaged() {
    for options in [options(), loose()] {
        let dir = scratch();
        let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), noise(300_000, 1)).unwrap();
        build_into(&root, &layout, "tag", &options);
        let image = format!("{}:tag", layout.display());
        let layers = open(&layout, "tag");
        let layers = layers.manifest().unwrap();
        let chunks = layers.layers().last().unwrap().unwrap().digest.to_string();
        let path = layout.join("blobs/sha256").join(&chunks);
        let away = dir.path().join("away");
        fs::rename(&path, &away).unwrap();
        symlink(&away, &path).unwrap();
        let out = dir.path().join("out");
        for args in [
            &["verify", &image][..],
            &["inspect", &image],
            &["du", layout.to_str().unwrap()],
            &["extract", &image, out.to_str().unwrap()],
        ] {
            let text = failure(&puzzlefs(args));
            assert!(text.contains("it is a symbolic link"), "{args:?}: {text}");
            assert!(text.contains(&chunks), "{args:?}: {text}");
            for word in ["DAMAGED", "damaged", "delete"] {
                assert!(!text.contains(word), "{args:?}: {text}");
            }
        }
        let build = puzzlefs(&["build", "--layout", "loose", root.to_str().unwrap(), &image]);
        success(&build);
        success(&puzzlefs(&["verify", &image]));
        assert!(away.symlink_metadata().unwrap().is_file());
    }
}

/// As LXC has it: many layouts, and one directory of blobs. All works but for what would remove
/// those of the others.
#[test]
fn the_blobs_may_lie_elsewhere() {
    for link in ["blobs", "blobs/sha256"] {
        let dir = scratch();
        let (root, layout) = two_images(dir.path());
        let (path, shared) = (layout.join(link), dir.path().join("shared"));
        fs::rename(&path, &shared).unwrap();
        symlink(&shared, &path).unwrap();
        let image = |tag: &str| format!("{}:{tag}", layout.display());
        fs::write(root.join("third"), noise(50_000, 3)).unwrap();
        success(&puzzlefs(&["build", root.to_str().unwrap(), &image("c")]));
        success(&puzzlefs(&["verify", &image("c")]));
        let out = dir.path().join("out");
        success(&puzzlefs(&["extract", &image("c"), out.to_str().unwrap()]));
        crate::common::assert_same_tree(&root, &out);
        let before = blobs(&layout);
        success(&puzzlefs(&["rm", &image("a")]));
        let text = failure(&puzzlefs(&["gc", layout.to_str().unwrap()]));
        assert!(text.contains("other layouts may have theirs"), "{text}");
        assert_eq!(blobs(&layout), before);
    }
}

/// index.json stays whose it was.
#[test]
fn index_json_keeps_owner_group_and_mode() {
    let dir = scratch();
    let (root, layout) = two_images(dir.path());
    let index = layout.join("index.json");
    fs::set_permissions(&index, fs::Permissions::from_mode(0o660)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&index, Some(1234), Some(4321)).unwrap();
    }
    let facts = || {
        let found = fs::metadata(&index).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    let before = facts();
    let image = format!("{}:c", layout.display());
    success(&puzzlefs(&["build", root.to_str().unwrap(), &image]));
    assert_eq!(facts(), before);
    success(&puzzlefs(&["rm", &image]));
    assert_eq!(facts(), before);
}
