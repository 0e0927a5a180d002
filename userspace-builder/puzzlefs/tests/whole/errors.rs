// SPDX-License-Identifier: Apache-2.0
//! What callers of the library get when something fails: an error whose variant says what to do,
//! with the path and the digest that it is about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{build_into, noise, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::extract::extract;
use puzzlefs::image::Image;
use puzzlefs::layout::reference::Reference;
use puzzlefs::layout::Layout;
use puzzlefs::upkeep::gc::gc;
use puzzlefs::Error;

/// What an error says: its variant, a path, a digest.
fn parts(error: &Error) -> (&'static str, Option<PathBuf>, Option<String>) {
    let name = match error {
        Error::Damaged(_) => "damaged",
        Error::NotFound(_) => "not found",
        Error::Refused(_) => "refused",
        Error::Trouble(_) => "trouble",
    };
    let fault = error.fault();
    (
        name,
        fault.path.clone(),
        fault.digest.map(|digest| digest.to_string()),
    )
}

#[test]
fn an_error_says_what_to_do_and_where() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    let nowhere = dir.path().join("nowhere");
    let at = |path: &Path| Some(path.to_owned());
    let error = Layout::open(&nowhere).err().unwrap();
    assert_eq!(parts(&error), ("not found", at(&nowhere), None));

    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), noise(300_000, 1)).unwrap();
    build_into(&root, &layout, "tag", &options());
    let open = |tag: &str| Image::open(&Reference::of_tag(&layout, tag));
    let error = open("other").err().unwrap();
    assert_eq!(parts(&error), ("not found", at(&layout), None));
    let image = open("tag").unwrap();
    let error = image.lookup(b"other").err().unwrap();
    assert_eq!(parts(&error), ("not found", None, None));
    let error = extract(&image, &root, &Silent).unwrap_err();
    assert_eq!(parts(&error), ("refused", at(&root), None));

    // A chunk has another byte.
    let blobs = layout.join("blobs/sha256");
    let files = fs::read_dir(&blobs).unwrap().map(|f| f.unwrap().path());
    let pack = files.max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let chunks = image.chunks().unwrap();
    let error = extract(&image, &dir.path().join("out"), &Silent).unwrap_err();
    let (name, _, digest) = parts(&error);
    assert_eq!((name, digest), ("damaged", Some(chunks[0].0.to_string())));

    // The Rootfs is gone: it was named by no caller, so that is damage.
    let rootfs = image.rootfs_digest().to_string();
    fs::remove_file(blobs.join(&rootfs)).unwrap();
    let error = open("tag").err().unwrap();
    assert_eq!(
        parts(&error),
        ("damaged", at(&blobs.join(&rootfs)), Some(rootfs))
    );
    let text = format!("{error:#}");
    assert!(text.contains("was the image copied completely?"), "{text}");

    fs::remove_file(layout.join("index.json")).unwrap();
    let error = gc(&Layout::open(&layout).unwrap(), false, &Silent).unwrap_err();
    assert_eq!(parts(&error), ("refused", at(&layout), None));
}

/// The sources of the library, each with whether others can name what is in it.
fn sources() -> Vec<(String, bool)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut files) = (Vec::new(), vec![(src.join("lib.rs"), src, true)]);
    while let Some((file, below, is_public)) = files.pop() {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let declared = line.strip_suffix(';').and_then(|l| l.split_once("mod "));
            let is_it = |(before, _): &(&str, &str)| {
                ["", "pub ", "pub(crate) ", "pub(super) "].contains(before)
            };
            let Some((before, name)) = declared.filter(is_it) else {
                continue;
            };
            let below = below.join(name);
            let file = match below.with_extension("rs") {
                file if file.exists() => file,
                _ => below.join("mod.rs"),
            };
            files.push((file, below, is_public && before == "pub "));
        }
        found.push((text, is_public));
    }
    found
}

/// The name of the type in `impl<'a> Name<'a> {`.
fn implemented(line: &str) -> &str {
    let rest = line.strip_prefix("impl").unwrap();
    let rest = rest.split_once("> ").filter(|_| rest.starts_with('<'));
    let rest = rest.map_or(&line["impl".len()..], |(_, rest)| rest);
    let end = |c: char| !c.is_alphanumeric();
    rest.trim_start().split(end).next().unwrap()
}

/// What is public returns errors of the library, not those by which rooms tell each other.
#[test]
fn no_error_of_a_room_is_public() {
    let sources = sources();
    let mut types = BTreeSet::new();
    for (text, _) in sources.iter().filter(|(_, is_public)| *is_public) {
        let names = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("pub struct ");
            let rest = rest.or_else(|| line.strip_prefix("pub enum "))?;
            rest.split(|c: char| !c.is_alphanumeric()).next()
        });
        types.extend(names);
    }
    assert!(types.contains("Layout") && !types.contains("Places"));
    let mut count = 0;
    for (text, is_public) in &sources {
        let uses = text.lines().filter(|line| line.starts_with("use anyhow::"));
        let has_other = uses.flat_map(|line| line.split([':', '{', ',', ' ', '}', ';']));
        let has_other = has_other.into_iter().any(|name| name == "Result");
        let (mut is_seen, mut margin) = (*is_public, "");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            match line {
                _ if line.starts_with("impl") => {
                    (is_seen, margin) = (types.contains(implemented(line)), "    ");
                }
                "}" => (is_seen, margin) = (*is_public, ""),
                _ if is_seen && line.starts_with(&format!("{margin}pub fn ")) => {
                    let mut whole = line.to_owned();
                    while !whole.ends_with(['{', ';']) {
                        whole += lines.next().unwrap();
                    }
                    let (_, returned) = whole.rsplit_once("->").unwrap_or_default();
                    let is_other = returned.contains("anyhow") || returned.contains("io::Result");
                    let is_bare = returned.trim_start().starts_with("Result<");
                    assert!(!(is_other || is_bare && has_other), "{whole}");
                    count += usize::from(returned.contains("Result<"));
                }
                _ => {}
            }
        }
    }
    assert!(count > 60, "{count} functions");
}
