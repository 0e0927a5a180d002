// SPDX-License-Identifier: Apache-2.0
//! Layers that no tool produces, or each another way.

use super::*;
use crate::tree;
use tar::{Builder, EntryType, Header};

/// Keeps content in memory.
#[derive(Default)]
struct Memory(Vec<Vec<u8>>);

impl Keep for Memory {
    fn keep(&mut self, size: u64, content: &mut dyn Content) -> Result<u32> {
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let zeros = content.read(&mut buffer)?;
            if zeros == 0 && buffer.is_empty() {
                break;
            }
            all.resize(all.len() + zeros as usize, 0);
            all.extend_from_slice(&buffer);
        }
        assert_eq!(all.len() as u64, size);
        self.0.push(all);
        Ok(self.0.len() as u32 - 1)
    }
}

/// A tar: `path` with a slash at its end is a directory, `a -> b` a symbolic link, `a = b` a hard link,
/// `a: text` a file.
fn layer(lines: &[&str]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for line in lines {
        let mut header = Header::new_gnu();
        header.set_mode(0o640);
        header.set_mtime(7);
        header.set_size(0);
        header.set_uid(1);
        header.set_gid(2);
        let link = |header: &mut Header, entry_type, path: &str, to: &str| {
            header.set_entry_type(entry_type);
            header.set_link_name_literal(to).unwrap();
            set_path(header, path);
        };
        let mut content: &[u8] = b"";
        if let Some((path, to)) = line.split_once(" -> ") {
            link(&mut header, EntryType::Symlink, path, to);
        } else if let Some((path, to)) = line.split_once(" = ") {
            link(&mut header, EntryType::Link, path, to);
        } else if let Some((path, text)) = line.split_once(": ") {
            header.set_size(text.len() as u64);
            content = text.as_bytes();
            set_path(&mut header, path);
        } else {
            let is_dir = line.ends_with('/');
            header.set_entry_type(if is_dir {
                EntryType::Directory
            } else {
                EntryType::Regular
            });
            set_path(&mut header, line);
        }
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Whatever the path is: the crate refuses `..`.
fn set_path(header: &mut Header, path: &str) {
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
}

/// What is in the image of `layers`, the lowest first; and all content that was kept.
fn merged(layers: &[Vec<u8>]) -> Result<(Vec<String>, Vec<String>)> {
    let mut memory = Memory::default();
    let mut merged = Layers::new(&mut memory);
    for layer in layers.iter().rev() {
        merged.put_below(Role::Layer, || Ok(&layer[..]))?;
    }
    let flat = merged.flatten(None)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut lines = Vec::new();
    for (at, node) in flat.tree.nodes.iter().enumerate() {
        let path = flat.tree.path(at as u32 + 1).display().to_string();
        let links = match node.nlink {
            1 => String::new(),
            links => format!(" *{links}"),
        };
        lines.push(match node.body {
            tree::Body::Dir(_) => format!("{path}/"),
            tree::Body::Symlink(to) => format!("{path} -> {}", text(flat.tree.text(to))),
            tree::Body::File { size: 0, .. } => format!("{path}{links}"),
            tree::Body::File { .. } => {
                let kept = flat.kept[at].unwrap() as usize;
                format!("{path}{links}: {}", text(&memory.0[kept]))
            }
            _ => format!("{path} ?"),
        });
    }
    let kept = memory.0.iter().map(|content| text(content)).collect();
    Ok((lines, kept))
}

#[track_caller]
fn check(layers: &[&[&str]], is: &[&str], kept: &[&str]) {
    let layers: Vec<Vec<u8>> = layers.iter().map(|lines| layer(lines)).collect();
    let (lines, content) = merged(&layers).unwrap();
    assert_eq!(lines, is);
    assert_eq!(content, kept);
}

#[test]
fn what_is_above_counts_and_nothing_else_is_kept() {
    check(
        &[
            &["./", "./a: lower", "./d/", "./d/one: 1", "./d/two: 2"],
            &["a: upper", "d/", "d/three: 3"],
        ],
        &["./", "a: upper", "d/", "d/one: 1", "d/three: 3", "d/two: 2"],
        &["upper", "3", "1", "2"],
    );
}

#[test]
fn whiteouts_hide_what_is_below_and_not_beside_them() {
    check(
        &[
            &["a: 1", "d/", "d/x: 1", "d/e/", "d/e/y: 1", "o/", "o/z: 1"],
            // In any order within the layer.
            &[
                "d/new: 2",
                "d/.wh..wh..opq",
                ".wh.a",
                "a: 2",
                ".wh.o",
                "o/",
                "o/new: 2",
            ],
            &[".wh.none", "q/.wh.none", "d/.wh.other"],
        ],
        &["./", "a: 2", "d/", "o/", "d/new: 2", "o/new: 2"],
        &["2", "2", "2"],
    );
}

/// Attributes of a directory with an opaque whiteout in it come from below, of one that was removed not.
#[test]
fn directories_have_the_attributes_of_the_uppermost() {
    let layers = [
        layer(&["d/", "d/x: 1", "e/", "e/x: 1"]),
        layer(&["d/.wh..wh..opq", "d/y: 2", ".wh.e", "e/y: 2"]),
    ];
    let mut memory = Memory::default();
    let mut merged = Layers::new(&mut memory);
    for layer in layers.iter().rev() {
        merged.put_below(Role::Layer, || Ok(&layer[..])).unwrap();
    }
    let flat = merged.flatten(None).unwrap();
    let of = |ino: usize| (flat.tree.nodes[ino].permissions, flat.tree.nodes[ino].uid);
    assert_eq!((of(0), of(1), of(2)), ((0o755, 0), (0o640, 1), (0o755, 0)));
}

#[test]
fn types_are_replaced() {
    check(
        &[
            &["a: 1", "d/", "d/x: 1", "l -> d"],
            &["a/", "a/y: 2", "d: 2", "l/", "l/z: 2"],
        ],
        &["./", "a/", "d: 2", "l/", "a/y: 2", "l/z: 2"],
        &["2", "2", "2"],
    );
    // Within a layer the last one counts, and nothing of the first is left.
    check(
        &[
            &["d/", "d/below: 1"],
            &["d/", "d/x: 2", "d: 2", "d/", "d/z: 3"],
        ],
        &["./", "d/", "d/z: 3"],
        &["2", "2", "3"],
    );
}

/// As umoci writes it, in both orders.
#[test]
fn names_in_what_was_replaced_may_be_whiteouts() {
    let lower = ["d/", "d/e/", "d/e/x: 1"];
    check(
        &[&lower, &["d: 2", "d/.wh.e", "d/e/.wh.x"]],
        &["./", "d: 2"],
        &["2"],
    );
    check(
        &[&lower, &["d/.wh.e", "d/e/.wh..wh..opq", "d: 2"]],
        &["./", "d: 2"],
        &["2"],
    );
}

#[test]
fn hard_links_lead_across_layers() {
    check(
        &[
            &["a: one", "c: gone"],
            &["b = a", ".wh.c"],
            &["d/", "d/e = b", ".wh.a"],
        ],
        &["./", "b *2: one", "d/"],
        &["one"],
    );
    // What is hidden by itself, but has another name: its content is read the second time.
    check(
        &[&["a: one", "b = a"], &["a: two"]],
        &["./", "a: two", "b: one"],
        &["two", "one"],
    );
    // In no order.
    check(&[&["b = a", "a: one"]], &["./", "a *2: one"], &["one"]);
}

#[test]
fn links_that_lead_nowhere_are_refused() {
    for lines in [
        &["b = a"][..],
        &["a = a"],
        &["d/", "b = d"],
        &[".wh.a", "b = a"],
        &["a = b", "c = d", "b = c", "d = a"],
    ] {
        assert!(
            merged(&[layer(&["x: 1"]), layer(lines)]).is_err(),
            "{lines:?}"
        );
    }
}

#[test]
fn what_leads_out_of_the_root_ends_there() {
    check(
        &[&["../../a: 1", "/b: 2", "d/../../c: 3", "e = ../../../a"]],
        &["./", "a *2: 1", "b: 2", "c: 3"],
        &["1", "2", "3"],
    );
}

/// As if it was unpacked: what is put into a link is where the link leads.
#[test]
fn links_in_the_place_of_directories_are_followed() {
    let usr = ["usr/", "usr/lib/", "usr/lib/a: 1", "lib -> usr/lib"];
    let is = [
        "./",
        "lib -> usr/lib",
        "usr/",
        "usr/lib/",
        "usr/lib/a: 1",
        "usr/lib/b: 2",
    ];
    check(&[&usr, &["lib/b: 2"]], &is, &["2", "1"]);
    check(&[&[&usr[..], &["lib/b: 2"]].concat()], &is, &["1", "2"]);
    for lines in [&["a -> b", "b -> a", "a/x: 1"][..], &["a: 1", "a/b: 2"]] {
        assert!(merged(&[layer(lines)]).is_err(), "{lines:?}");
    }
    let far = layer(&["a -> ../../../../etc", "a/x: 1"]);
    assert_eq!(
        merged(&[far]).unwrap().0,
        ["./", "a -> ../../../../etc", "etc/", "etc/x: 1"]
    );
}

/// Neither one that goes in circles, nor one of many names, nor one that goes down in each layer.
#[test]
fn ways_by_links_end() {
    let link = |name: &str, to: &str| {
        let mut tar = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, to).unwrap();
        tar.into_inner().unwrap()[..].to_vec()
    };
    // Without its end.
    let open = |mut tar: Vec<u8>| {
        tar.truncate(tar.len() - 1024);
        tar
    };
    let long = open(link("a", &"b/../".repeat(800)));
    let names = |count: usize| layer(&[&format!("{}x: 1", "a/".repeat(count))]);
    assert!(merged(&[[&long[..], &names(4)].concat()]).is_ok());
    assert!(merged(&[[&long[..], &names(30)].concat()]).is_err());

    let deep = |layers: usize| {
        let down = |i: usize| {
            open(link(
                &format!("d{i}"),
                &format!("d{}/{}", i + 1, "e/".repeat(300)),
            ))
        };
        let mut all: Vec<Vec<u8>> = (0..layers)
            .rev()
            .map(|i| [&down(i)[..], &layer(&[])].concat())
            .collect();
        all.push(layer(&["d0/x: 1"]));
        merged(&all)
    };
    assert!(deep(3).is_ok());
    assert!(deep(4).is_err());
}

#[test]
fn a_tree_has_no_whiteouts() {
    let (mut memory, tar) = (Memory::default(), layer(&[".wh.a: 1", "a: 2"]));
    let mut layers = Layers::new(&mut memory);
    layers.put_below(Role::Tree, || Ok(&tar[..])).unwrap();
    assert_eq!(layers.flatten(None).unwrap().tree.nodes.len(), 3);
}

#[test]
fn what_is_damaged_is_refused() {
    let whole = layer(&["a: some text", "b: more"]);
    let fails = |tar: &[u8]| merged(&[tar.to_vec()]).unwrap_err().to_string();
    for len in [512 + 3, 1024 + 100] {
        fails(&whole[..len]);
    }
    // What fills up the last block is nothing that somebody could miss.
    for len in [512 + 9, 1000] {
        assert!(merged(&[whole[..len].to_vec()]).is_ok(), "{len}");
    }
    // Without the zeros at its end it is one that others read.
    assert!(merged(&[whole[..2048].to_vec()]).is_ok());
    let mut bad = whole;
    bad[1024] ^= 1;
    assert!(fails(&bad).contains("wrong sum"));
    assert!(fails(&[b'x'; 512]).contains("no tar"));
}
