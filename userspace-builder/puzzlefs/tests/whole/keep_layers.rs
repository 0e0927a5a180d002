// SPDX-License-Identifier: Apache-2.0
//! An image whose layers were kept reads as the one without.

use std::fs;

use crate::common::command::{puzzlefs, success};
use crate::common::ordinary::{entry, ordinary, tar_of, write_index, Place};
use crate::common::{faults, open};
use serde_json::{json, Value};

/// Converts an ordinary image of some layers with the option and without; what `inspect` says of both.
fn converted_tars(place: &Place, tars: &[Vec<u8>], more: &[&str]) -> [Value; 2] {
    fs::create_dir_all(place.at("O/blobs/sha256")).unwrap();
    let manifest = ordinary(&place.at("O"), tars, "");
    write_index(place, &json!([entry(place, &manifest, "v")]));
    let source = format!("oci:{}:v", place.at("O").display());
    ["flat", "kept"].map(|tag| {
        let image = format!("{}:{tag}", place.at("L").display());
        let keep: &[&str] = match tag {
            "kept" => &["--keep-layers"],
            _ => &[],
        };
        let args = [&["convert", "--no-cache", &source, &image], keep, more].concat();
        success(&puzzlefs(&args));
        assert_eq!(faults(&place.at("L"), tag), [""; 0]);
        let text = success(&puzzlefs(&["inspect", "--format=json", &image]));
        serde_json::from_str(&text).unwrap()
    })
}

/// The same of the trees that scripts make.
fn converted(place: &Place, layers: &[&str]) -> [Value; 2] {
    let tars: Vec<Vec<u8>> = layers.iter().map(|script| tar_of(place, script)).collect();
    converted_tars(place, &tars, &[])
}

/// All that a reader sees of both is the same, inode numbers as well.
fn assert_same(place: &Place) {
    let said = |args: &[&str]| {
        let [flat, kept] = ["flat", "kept"].map(|tag| {
            let image = format!("{}:{tag}", place.at("L").display());
            success(&puzzlefs(&[args, &[&image]].concat()))
        });
        assert_eq!(flat, kept);
        flat
    };
    assert!(said(&["ls", "-lR"]).lines().count() > 3);
    let tars = ["flat", "kept"].map(|tag| {
        let image = format!("{}:{tag}", place.at("L").display());
        puzzlefs(&["export", &image]).stdout
    });
    assert!(tars[0].len() > 1024 && tars[0] == tars[1]);
    let [flat, kept] = ["flat", "kept"].map(|tag| open(&place.at("L"), tag));
    let (flat, kept) = (flat.rootfs().unwrap(), kept.rootfs().unwrap());
    for ino in 1.. {
        let found = [&flat, &kept].map(|rootfs| rootfs.inode(ino).unwrap());
        let [Some(flat), Some(kept)] = found else {
            assert!(found.iter().all(Option::is_none));
            break;
        };
        assert_eq!(flat.nlink(), kept.nlink());
        assert_eq!(flat.parent(), kept.parent());
    }
}

const BASE: &str = "mkdir -p etc usr/bin usr/doc gone/deep; echo 1 >etc/a; echo 1 >etc/b
    head -c 400000 /dev/zero | tr '\\0' x >usr/bin/big; ln usr/bin/big usr/bin/big2; ln -s big usr/bin/link
    echo doc >usr/doc/one; echo doc >usr/doc/two; echo x >gone/deep/file; echo f >turns; mkfifo fifo";

#[test]
fn whiteouts_opaque_directories_and_replaced_types_read_the_same() {
    let place = Place::new();
    let layers = [
        BASE,
        "mkdir -p usr/doc; : >usr/doc/.wh..wh..opq; echo new >usr/doc/three; : >.wh.gone",
        "mkdir -p etc turns; echo 3 >etc/a; : >etc/.wh.b; echo in >turns/in; mkdir -p empty/dir",
    ];
    let [flat, kept] = converted(&place, &layers);
    assert_same(&place);
    assert_eq!(flat["metadata_layers"], 1);
    // The root, etc, a, turns, in, empty, dir; then usr, doc, three; then bin with two files, and fifo.
    assert_eq!(kept["metadata_layer_inodes"], json!([7, 3, 4]));
    for key in ["inodes", "names", "chunks", "stored_bytes", "data_bytes"] {
        assert_eq!(flat[key], kept[key], "{key}");
    }
    // It is an image as others are.
    let layout = place.at("L");
    let layout = layout.to_str().unwrap();
    success(&puzzlefs(&["repack", layout]));
    success(&puzzlefs(&["gc", layout]));
    assert_same(&place);
    let base = format!("{layout}:more");
    place.sh("mkdir -p T/etc; echo 4 >T/etc/a");
    let root = place.at("T");
    success(&puzzlefs(&[
        "build",
        "--base=kept",
        root.to_str().unwrap(),
        &base,
    ]));
    assert_eq!(faults(&place.at("L"), "more"), [""; 0]);
}

/// A link in an upper layer to what a lower one has: the file is of the upper one, with both names.
#[test]
fn hard_links_across_layers_read_the_same() {
    let place = Place::new();
    let link = "mkdir -p usr/bin zz; echo x >usr/bin/big; ln usr/bin/big zz/third; \
        tar --format=posix -cf ../l2.tar ./usr/bin/big ./zz/third; tar --delete -f ../l2.tar ./usr/bin/big";
    let base = tar_of(&place, BASE);
    tar_of(&place, link);
    let upper = fs::read(place.at("l2.tar")).unwrap();
    // And one that only touches another file.
    let top = tar_of(&place, "mkdir etc; echo 9 >etc/nine");
    let [_, said] = converted_tars(&place, &[base, upper, top], &[]);
    assert_same(&place);
    let image = format!("{}:kept", place.at("L").display());
    let list = success(&puzzlefs(&["ls", "-lR", &image]));
    let big = list.lines().filter(|line| line.contains("400000"));
    assert_eq!(big.count(), 3, "{list}");
    // The root, etc, nine; zz and the file with three names; all else.
    assert_eq!(said["metadata_layer_inodes"], json!([3, 2, 13]), "{list}");
}

/// What a layer says only by removing something is of that layer, also if it does not name the directories.
#[test]
fn directories_are_of_the_layer_that_removes_something() {
    let place = Place::new();
    let base = tar_of(&place, BASE);
    place.sh("mkdir -p r/usr/doc; : >r/usr/doc/.wh.two; : >r/.wh.turns");
    let gone = ["./usr/doc/.wh.two", ".wh.turns"].map(|name| {
        place.sh(&format!("tar -C r -cf gone.tar {name}"));
        fs::read(place.at("gone.tar")).unwrap()
    });
    let [two, turns] = gone;
    let [_, kept] = converted_tars(&place, &[base, two, turns], &[]);
    assert_same(&place);
    // The root; usr, doc; and all else but the two that are gone.
    assert_eq!(kept["metadata_layer_inodes"], json!([1, 2, 11]));
}

/// Layers that nothing is left of have no place, and an image that upstream reads is possible.
#[test]
fn empty_layers_have_none() {
    let place = Place::new();
    place.sh("tar -T /dev/null -cf none.tar");
    let none = fs::read(place.at("none.tar")).unwrap();
    let [lower, upper] = [BASE, "mkdir usr; echo 2 >usr/a"].map(|it| tar_of(&place, it));
    let tars = [
        none.clone(),
        lower.clone(),
        none.clone(),
        lower,
        upper,
        none,
    ];
    let [_, kept] = converted_tars(&place, &tars, &["--compat"]);
    assert_same(&place);
    assert_eq!(kept["version"], 3);
    // The root, usr and the new file; all else, of which the lower of two layers has nothing.
    assert_eq!(kept["metadata_layer_inodes"], json!([3, 14]));
}
