// SPDX-License-Identifier: Apache-2.0
//! What is exported is what was built: other tools read it, and converted again it has the same digest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::command::{failure, puzzlefs, success, PUZZLEFS};
use crate::common::{assert_same_tree, build_into, everything, noise, open, options, scratch};
use puzzlefs::base::progress::Silent;
use puzzlefs::export;
use rustix::fs::XattrFlags;
use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(scratch());
        fs::create_dir(place.at("t")).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.at("L").display())
    }

    /// Builds the tree at `root` under that name.
    fn build(&self, root: &str) {
        build_into(&self.at(root), &self.at("L"), root, &options());
    }

    /// Runs a script here, with the command as `$PUZZLEFS`.
    fn sh(&self, script: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["120", "sh", "-euc", script]);
        command.env("PUZZLEFS", PUZZLEFS).current_dir(self.0.path());
        command.output().unwrap()
    }

    fn rootfs(&self, tag: &str) -> String {
        open(&self.at("L"), tag).rootfs_digest().to_string()
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&success(output)).unwrap()
}

fn ensure_root() {
    // The trees have owners and devices.
    assert!(rustix::process::geteuid().is_root(), "run it as root");
}

#[test]
fn an_exported_tar_is_converted_to_the_same_image() {
    let place = Place::new();
    everything(&place.at("t"));
    fs::remove_file(place.at("t/sock")).unwrap();
    // More than fits into the fields of a header.
    let long = "d".repeat(150);
    fs::create_dir_all(place.at("t").join(&long).join(&long)).unwrap();
    let deep = place.at("t").join(&long).join(&long).join("file");
    fs::write(&deep, "deep").unwrap();
    fs::hard_link(&deep, place.at("t").join(&long).join("zlink")).unwrap();
    let binary = b"\n=\0\xff\n9 a=b\n";
    rustix::fs::setxattr(&deep, "user.binary", binary, XattrFlags::empty()).unwrap();
    place.build("t");
    success(&place.sh("$PUZZLEFS export L:t >t.tar"));
    success(&puzzlefs(&[
        "convert",
        "--no-cache",
        &format!("tar:{}", place.at("t.tar").display()),
        &place.image("again"),
    ]));
    assert_eq!(place.rootfs("t"), place.rootfs("again"));
    success(&place.sh("$PUZZLEFS export L:again | cmp - t.tar"));
}

#[test]
fn tar_reads_it() {
    ensure_root();
    let place = Place::new();
    everything(&place.at("t"));
    fs::remove_file(place.at("t/sock")).unwrap();
    place.build("t");
    success(
        &place.sh(
            "mkdir out; $PUZZLEFS export L:t | tar -C out --xattrs --xattrs-include='*' -xpf -",
        ),
    );
    assert_same_tree(&place.at("t"), &place.at("out"));
}

#[test]
fn what_no_tar_can_hold_is_counted() {
    let place = Place::new();
    fs::write(place.at("t/file"), "x").unwrap();
    for name in ["user.a=b", "user.plain"] {
        rustix::fs::setxattr(place.at("t/file"), name, b"v", XattrFlags::empty()).unwrap();
    }
    std::os::unix::net::UnixListener::bind(place.at("t/sock")).unwrap();
    place.build("t");
    let output = place.sh("$PUZZLEFS export L:t >t.tar");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("1 sockets and 1 extended attributes"),
        "{said}"
    );
    assert_eq!(success(&place.sh("tar -tf t.tar")), "./\nfile\n");
    let said = failure(&place.sh("$PUZZLEFS export L:t >/dev/full"));
    assert!(said.contains("standard output: No space left"), "{said}");
}

/// An ordinary image goes in, and out again with all that it says of itself.
#[test]
fn an_ordinary_image_comes_back() {
    let place = Place::new();
    fs::create_dir(place.at("t/d")).unwrap();
    fs::write(place.at("t/large"), noise(700_000, 1)).unwrap();
    fs::write(place.at("t/d/small"), "small").unwrap();
    place.build("t");
    for (method, media_type) in [("none", "tar"), ("gzip", "tar+gzip"), ("zstd", "tar+zstd")] {
        let to = format!("oci:{}:{method}", place.at("ordinary").display());
        let args = [
            "export",
            "--format=json",
            "--compression",
            method,
            "--to",
            &to,
        ];
        let report = json(&puzzlefs(&[&args[..], &[&place.image("t")]].concat()));
        assert_eq!(report["names"], 4);
        let again = puzzlefs(&["convert", "--no-cache", &to, &place.image("again")]);
        success(&again);
        assert_eq!(place.rootfs("t"), place.rootfs("again"), "{method}");
        let manifest = blob(&place, "ordinary", report["manifest"].as_str().unwrap());
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layer = &manifest["layers"][0];
        let expected = format!("application/vnd.oci.image.layer.v1.{media_type}");
        assert_eq!(layer["mediaType"], expected);
        assert_eq!(layer["size"], report["layer_bytes"]);
        // What was converted has a config: it goes through unchanged, but for its layers.
        let to = format!("oci:{}:back", place.at("ordinary").display());
        let args = ["export", "--format=json", "--to", &to];
        let back = json(&puzzlefs(&[&args[..], &[&place.image("again")]].concat()));
        let first = json(&puzzlefs(&[&args[..], &[&place.image("t")]].concat()));
        assert_eq!(back["layer"], first["layer"]);
    }
}

fn blob(place: &Place, layout: &str, digest: &str) -> Vec<u8> {
    fs::read(place.at(layout).join("blobs/sha256").join(digest)).unwrap()
}

#[test]
fn config_and_annotations_come_back() {
    let place = Place::new();
    fs::write(place.at("t/file"), "x").unwrap();
    place.build("t");
    let to = |tag: &str| format!("oci:{}:{tag}", place.at("ordinary").display());
    success(&puzzlefs(&["export", "--to", &to("a"), &place.image("t")]));
    edit_config(&place.at("ordinary"));
    success(&puzzlefs(&["convert", &to("a"), &place.image("converted")]));
    let args = [
        "export",
        "--format=json",
        "--to",
        &to("b"),
        &place.image("converted"),
    ];
    let report = json(&puzzlefs(&args));
    let manifest = blob(&place, "ordinary", report["manifest"].as_str().unwrap());
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(
        manifest["annotations"],
        serde_json::json!({ "org.example.a": "b" })
    );
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = blob(&place, "ordinary", config.strip_prefix("sha256:").unwrap());
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["config"]["Env"][0], "A=B");
    assert_eq!(config["config"]["Entrypoint"][0], "/init");
    assert_eq!(config["architecture"], "riscv64");
    let history: Vec<_> = config["history"].as_array().unwrap().iter().collect();
    let by: Vec<_> = history.iter().map(|step| &step["created_by"]).collect();
    assert_eq!(by, ["RUN something", "puzzlefs export"]);
    let diff_id = config["rootfs"]["diff_ids"][0].as_str().unwrap();
    let tar = success(&place.sh("$PUZZLEFS export L:t | sha256sum"));
    assert_eq!(
        diff_id,
        format!("sha256:{}", tar.split_whitespace().next().unwrap())
    );
}

/// Gives the image with the tag `a` a config and an annotation, as a builder of images does.
fn edit_config(layout: &Path) {
    let read =
        |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blobs = layout.join("blobs/sha256");
    let path = |value: &Value| {
        blobs.join(
            value["digest"]
                .as_str()
                .unwrap()
                .trim_start_matches("sha256:"),
        )
    };
    let write = |value: &Value| {
        let text = serde_json::to_vec(value).unwrap();
        let digest = puzzlefs::base::digest::sha256(&[&text]);
        fs::write(blobs.join(digest.to_string()), &text).unwrap();
        (format!("sha256:{digest}"), text.len())
    };
    let mut index = read(layout.join("index.json"));
    let mut manifest = read(path(&index["manifests"][0]));
    let mut config = read(path(&manifest["config"]));
    config["architecture"] = "riscv64".into();
    config["config"] = serde_json::json!({ "Env": ["A=B"], "Entrypoint": ["/init"] });
    config["history"] = serde_json::json!([{ "created_by": "RUN something" }]);
    let (digest, size) = write(&config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest.into(), size.into());
    manifest["annotations"] = serde_json::json!({ "org.example.a": "b" });
    let (digest, size) = write(&manifest);
    (
        index["manifests"][0]["digest"],
        index["manifests"][0]["size"],
    ) = (digest.into(), size.into());
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn whiteouts_are_no_files_of_a_layer() {
    let place = Place::new();
    fs::write(place.at("t/.wh.file"), "x").unwrap();
    place.build("t");
    let to = format!("oci:{}:x", place.at("ordinary").display());
    let said = failure(&puzzlefs(&["export", "--to", &to, &place.image("t")]));
    assert!(said.contains("/.wh.file: in a layer"), "{said}");
    assert_eq!(
        fs::read_dir(place.at("ordinary/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    // A tar of a tree has no such names.
    success(&place.sh("$PUZZLEFS export L:t | tar -t | grep -Fx .wh.file"));
}

#[test]
fn cat_follows_links_within_the_image() {
    let place = Place::new();
    let link =
        |to: &str, name: &str| std::os::unix::fs::symlink(to, place.at("t").join(name)).unwrap();
    fs::create_dir_all(place.at("t/usr/lib")).unwrap();
    let content = [noise(300_000, 2), vec![0; 3 << 20], noise(1000, 3)].concat();
    fs::write(place.at("t/usr/lib/file"), &content).unwrap();
    link("usr/lib", "lib");
    link("../../../../../lib/./file", "usr/lib/up");
    link("/lib/up", "usr/lib/absolute");
    link("loop", "loop");
    place.build("t");
    let image = open(&place.at("L"), "t");
    for path in [
        "usr/lib/file",
        "/lib/file",
        "usr/lib/absolute",
        "usr/lib/../lib/up",
    ] {
        let mut out = Vec::new();
        export::files(&image, [path.as_bytes()], &mut out).unwrap();
        assert!(out == content, "{path}");
    }
    for (path, why) in [
        ("loop", "links"),
        ("lib", "no regular file"),
        ("none", "not in the image"),
        ("lib/file/x", "no directory"),
    ] {
        let said = failure(&puzzlefs(&["cat", &place.image("t"), path]));
        assert!(said.contains(why), "{path}: {said}");
    }
}

/// Packs are opened once, and not for each file: it shows where they go away in between.
#[test]
fn many_files_are_read_of_packs_that_were_opened_once() {
    struct Away<'a>(Vec<u8>, &'a Place);
    impl std::io::Write for Away<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                let moved = self.1.sh("mkdir away; mv L/blobs/sha256/* away/");
                success(&moved);
            }
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    for name in ["a", "b", "c"] {
        fs::write(place.at("t").join(name), name).unwrap();
    }
    place.build("t");
    let image = open(&place.at("L"), "t");
    let mut out = Away(Vec::new(), &place);
    export::files(&image, [&b"a"[..], b"/b", b"c"], &mut out).unwrap();
    assert_eq!(out.0, b"abc");
    success(&place.sh("mv away/* L/blobs/sha256/"));
    let said = success(&puzzlefs(&["cat", &place.image("t"), "/c", "b"]));
    assert_eq!(said, "cb");
}

#[test]
fn diff_names_what_differs() {
    let place = Place::new();
    let at = |name: &str| place.at("t").join(name);
    for name in ["same", "mode", "gone", "content", "grown", "kind", "xattr"] {
        fs::write(at(name), noise(200_000, 9)).unwrap();
    }
    fs::write(at("linked"), "l").unwrap();
    fs::write(at("twin"), "l").unwrap();
    success(&place.sh("find t -exec touch -h -d @1700000000 {} +; cp -a t u"));
    let at = |name: &str| place.at("u").join(name);
    let mut content = noise(200_000, 9);
    content[100_000] ^= 1;
    content[100_001] ^= 1;
    fs::write(at("content"), &content).unwrap();
    fs::write(at("grown"), [noise(200_000, 9), vec![7; 11]].concat()).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::remove_file(at("kind")).unwrap();
    fs::create_dir(at("kind")).unwrap();
    fs::write(at("kind/new"), "new").unwrap();
    rustix::fs::setxattr(at("xattr"), "user.a", b"b", XattrFlags::empty()).unwrap();
    success(&place.sh("chmod 600 u/mode; ln -f u/linked u/twin"));
    success(&place.sh("find u -exec touch -h -d @1700000000 {} +"));
    place.build("t");
    place.build("u");
    let args = ["diff", &place.image("t"), &place.image("u")];
    let text = success(&puzzlefs(&args));
    let (lines, summary) = text.trim_end().rsplit_once('\n').unwrap();
    let expected = "M /content (content)\nD /gone\nM /grown (content)\nM /kind (type, mode)\n\
                    A /kind/new\nM /mode (mode)\nM /twin (links)\nM /xattr (xattrs)";
    assert_eq!(lines, expected);
    assert!(
        summary.contains("1 added, 1 deleted, 6 modified: 200016 bytes"),
        "{summary}"
    );
    let json = success(&puzzlefs(&[&args[..], &["--format=json"]].concat()));
    let bytes = |name: &str| -> Value {
        let found = json
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found = found.filter(|line| line["path"] == name);
        found.map(|line| line["data_bytes"].clone()).next().unwrap()
    };
    assert_eq!(bytes("/content"), 2);
    assert_eq!(bytes("/grown"), 11);
    assert_eq!(bytes("/gone"), 200_000);
    let last: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert!(last["shared_chunks"].as_u64().unwrap() > 0, "{last}");
    assert_eq!(
        puzzlefs(&[&args[..], &["--exit-code"]].concat())
            .status
            .code(),
        Some(1)
    );
    let same = ["diff", "--exit-code", &place.image("t"), &place.image("t")];
    success(&puzzlefs(&same));
}

/// However an image is stored, its files are what they are.
#[test]
fn other_chunks_are_no_difference() {
    let place = Place::new();
    fs::write(place.at("t/large"), noise(900_000, 4)).unwrap();
    fs::write(
        place.at("t/holes"),
        [vec![1; 5000], vec![0; 1 << 20], vec![2; 5000]].concat(),
    )
    .unwrap();
    place.build("t");
    let args = ["build", "--compat", "--chunk-size=64K", "t", "L:compat"];
    success(&place.sh(&format!("$PUZZLEFS {}", args.join(" "))));
    let changes = &mut Vec::new();
    let (a, b) = (open(&place.at("L"), "t"), open(&place.at("L"), "compat"));
    let summary = puzzlefs::reports::diff::diff(&a, &b, &mut |change| {
        changes.push(change.path);
        Ok(())
    });
    assert_eq!(summary.unwrap().data_bytes, 0);
    assert_eq!(*changes, [""; 0]);
    let mut tars = [Vec::new(), Vec::new()];
    export::tar(&a, &mut tars[0], &Silent).unwrap();
    export::tar(&b, &mut tars[1], &Silent).unwrap();
    // Only the one has holes.
    assert!(tars[0].len() + (1 << 19) < tars[1].len());
}
