// SPDX-License-Identifier: Apache-2.0
//! An image is extracted around what is mounted in a directory, as into the root of a container.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::ordinary::Place;
use crate::common::{build_into, options};
use puzzlefs::base::progress::Silent;
use puzzlefs::extract::{extract_with, Options};
use puzzlefs::image::Image;
use puzzlefs::layout::reference::Reference;

/// What a runtime mounts stands for that: a file, a directory, and one below where the image has a link.
const THERE: &str =
    "mkdir -p etc proc var/run/secrets/token data/own; echo the-runtimes >etc/hosts; echo x >proc/1
    echo secret >var/run/secrets/token/file; echo mine >data/own/file; mkdir empty";
const TREE: &str = "mkdir -p etc proc/sys run var data/own/deep usr; echo new >etc/hosts; echo new >etc/other
    ln -s ../run var/run; echo new >proc/1; echo new >data/own/file; echo new >data/own/deep/file; ln -s usr empty
    echo new >data/beside; ln data/beside data/own/hard; ln data/beside data/second; chmod 750 data; chmod 700 etc";

fn place() -> Place {
    let place = Place::new();
    place.sh(&format!(
        "umask 022; mkdir t d; (cd t; {TREE}); (cd d; {THERE})"
    ));
    build_into(&place.at("t"), &place.at("L"), "t", &options());
    place
}

fn extract(place: &Place, keep: &[&str]) -> puzzlefs::Result<()> {
    let image = Image::open(&Reference::of_tag(place.at("L"), "t"))?;
    let options = Options {
        force: true,
        keep: keep.iter().map(PathBuf::from).collect(),
        ..Options::default()
    };
    extract_with(&image, &place.at("d"), &options, &Silent)?;
    Ok(())
}

#[test]
fn what_is_kept_stays_and_all_else_is_the_images() {
    let place = place();
    let text = |name: &str| fs::read_to_string(place.at("d").join(name)).unwrap();
    let keep = ["etc/hosts", "proc", "var/run/secrets/token", "data/own"];
    // Twice: a start that was interrupted is done again.
    for _ in 0..2 {
        extract(&place, &keep).unwrap();
        assert_eq!(text("etc/hosts"), "the-runtimes\n");
        assert_eq!(text("etc/other"), "new\n");
        assert_eq!(text("proc/1"), "x\n");
        assert_eq!(text("var/run/secrets/token/file"), "secret\n");
        assert_eq!(text("data/own/file"), "mine\n");
        let own = fs::read_dir(place.at("d/data/own")).unwrap();
        assert_eq!(own.count(), 1);
        assert_eq!(
            (text("data/beside"), text("data/second")),
            ("new\n".into(), "new\n".into())
        );
        let link = fs::read_link(place.at("d/empty")).unwrap();
        assert_eq!(link, Path::new("usr"));
        let mode = |name: &str| {
            use std::os::unix::fs::PermissionsExt;
            let found = fs::metadata(place.at("d").join(name)).unwrap();
            found.permissions().mode() & 0o777
        };
        assert_eq!((mode("data"), mode("etc")), (0o750, 0o700));
        let names = fs::read_dir(place.at("d")).unwrap();
        assert_eq!(names.count(), 7, "something was left");
    }
}

#[test]
fn without_that_it_is_refused_or_replaced() {
    let place = place();
    let error = extract(&place, &["data/own"]).unwrap_err();
    assert!(matches!(error, puzzlefs::Error::Refused(_)), "{error:#}");
    assert!(error.to_string().contains("extracting into"), "{error:#}");
    let hosts = fs::read_to_string(place.at("d/etc/hosts"));
    assert_eq!(hosts.unwrap(), "the-runtimes\n");
}
