// SPDX-License-Identifier: Apache-2.0
//! What a build is told to make different from the tree: what is left out, owners, times, the config.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::command::{failure, success, PUZZLEFS};
use crate::common::{open, scratch};
use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    /// With a tree `t` that `script` makes.
    fn new(script: &str) -> Self {
        let place = Place(scratch());
        success(&place.sh(&format!("mkdir t; cd t; {script}")));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script here, with the command as `$PUZZLEFS`.
    fn sh(&self, script: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["120", "sh", "-euc", script]);
        command.env("PUZZLEFS", PUZZLEFS).current_dir(self.0.path());
        command.output().unwrap()
    }

    fn build(&self, options: &str) -> Value {
        let script = format!("$PUZZLEFS build --no-cache --format=json {options} t L:x");
        serde_json::from_str(&success(&self.sh(&script))).unwrap()
    }

    /// Lines of `puzzlefs ls` in JSON.
    fn names(&self) -> Vec<Value> {
        let text = success(&self.sh("$PUZZLEFS ls -R --format=json L:x"));
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    fn paths(&self) -> Vec<String> {
        let names = self.names().into_iter();
        names
            .map(|name| name["path"].as_str().unwrap().into())
            .collect()
    }
}

#[test]
fn patterns_leave_out() {
    let place = Place::new(
        "mkdir -p a/cache b; touch a/x.o a/y.c a/keep.o a/cache/c b/top top; ln a/x.o b/second",
    );
    fs::write(place.at("patterns"), "# what compilers make\n*.o\n\n").unwrap();
    let report =
        place.build("--exclude-from=patterns --exclude='!keep.o' --exclude=/top --exclude=cache/");
    assert_eq!(report["excluded"], 3);
    let all = ["/a", "/a/keep.o", "/a/y.c", "/b", "/b/second", "/b/top"];
    assert_eq!(place.paths(), all);
    // The other name of it is not in the image.
    let second = &place.names()[4];
    assert_eq!(second["nlink"], 1);
    let text = success(&place.sh("$PUZZLEFS build --exclude='*.o' t L:x"));
    assert!(text.contains("left out  2 names"), "{text}");
    let said = failure(&place.sh("$PUZZLEFS build --exclude='[z-a]' t N:x"));
    assert!(said.contains("--exclude: the pattern \"[z-a]\""), "{said}");
    let said = failure(&place.sh("$PUZZLEFS build --exclude-from=none t N:x"));
    assert!(
        said.contains("--exclude-from: none: No such file"),
        "{said}"
    );
    assert!(!place.at("N").exists());
}

#[test]
fn owners_are_mapped() {
    let place = Place::new("touch a");
    let meta = fs::metadata(place.at("t/a")).unwrap();
    let (uid, gid) = (meta.uid(), meta.gid());
    let owner = |place: &Place| {
        let name = place.names().remove(0);
        (name["uid"].as_u64().unwrap(), name["gid"].as_u64().unwrap())
    };
    place.build("--owner=7:4294967294");
    assert_eq!(owner(&place), (7, 4_294_967_294));
    place.build(&format!(
        "--uid-map=5:{uid}:1 --gid-map=9:4000000:3 --gid-map=70:{gid}"
    ));
    assert_eq!(owner(&place), (5, 70));
    let script = format!("$PUZZLEFS build --uid-map=0:{}:9 t L:y", uid + 1);
    let said = failure(&place.sh(&script));
    assert!(
        said.contains(&format!("its owner {uid} is in no range of --uid-map")),
        "{said}"
    );
}

#[test]
fn times_are_clamped() {
    let place =
        Place::new("touch -d @1000000000 old; touch -d @2000000000 new; touch -d @3000000000 .");
    place.build("--clamp-mtime=1500000000");
    let times: Vec<_> = place
        .names()
        .iter()
        .map(|name| name["mtime"].as_i64())
        .collect();
    assert_eq!(times, [Some(1_500_000_000), Some(1_000_000_000)]);
    // It has precedence.
    success(&place.sh("SOURCE_DATE_EPOCH=5 $PUZZLEFS build --clamp-mtime=-6 t L:x"));
    assert_eq!(place.names()[1]["mtime"], -6);
}

#[test]
fn a_tar_on_standard_input_is_built() {
    let place = Place::new("mkdir d; echo x >d/x; find . -exec touch -h -d @1 {} +");
    let built = place.build("");
    let tar = "tar -C t --format=posix -c . | gzip | $PUZZLEFS build --format=json - L:y";
    let from_tar: Value = serde_json::from_str(&success(&place.sh(tar))).unwrap();
    assert_eq!(built["rootfs"], from_tar["rootfs"]);
    let said = failure(&place.sh("$PUZZLEFS build --owner=0:0 - N:y </dev/null"));
    assert!(said.contains("for a directory"), "{said}");
    assert!(!place.at("N").exists());
}

#[test]
fn a_config_comes_from_a_file_or_an_image() {
    let place = Place::new("echo x >x");
    let config = r#"{"architecture":"arm64","os":"linux","config":{"Env":["A=B"],"User":"7"},
        "rootfs":{"type":"layers","diff_ids":["sha256:0"]},"history":[{"created_by":"me"}]}"#;
    fs::write(place.at("config"), config).unwrap();
    place.build("--config=config");
    let config = |place: &Place| -> Value {
        let kept = open(&place.at("L"), "x").kept().unwrap();
        serde_json::from_slice(&kept.text.unwrap()).unwrap()
    };
    let first = config(&place);
    assert_eq!(first["config"]["User"], "7");
    assert_eq!(first["architecture"], "arm64");
    let image = open(&place.at("L"), "x");
    let layers = image.manifest().unwrap().layers().count();
    assert_eq!(
        first["rootfs"]["diff_ids"].as_array().unwrap().len(),
        layers
    );
    assert_eq!(first["history"][0]["empty_layer"], true);
    success(&place.sh("$PUZZLEFS tag L:x first; $PUZZLEFS export --to=oci:O:x L:x"));
    place.build("");
    assert!(open(&place.at("L"), "x").kept().unwrap().text.is_none());
    for from in ["L:first", "oci:O:x"] {
        place.build(&format!("--config-from={from}"));
        let found = config(&place);
        assert_eq!(found["config"], first["config"], "{from}");
    }
    fs::write(place.at("config"), "{}").unwrap();
    let said = failure(&place.sh("$PUZZLEFS build --config=config t L:z"));
    assert!(said.contains("the config of the image"), "{said}");
}

#[test]
fn single_paths_are_extracted() {
    let place = Place::new("mkdir -p a/b/c d; touch a/1 a/b/2 a/b/c/3 d/4 5; chmod 711 a");
    place.build("");
    success(&place.sh("$PUZZLEFS extract L:x out /a/b 5"));
    let found = success(&place.sh("cd out; find . | sort"));
    assert_eq!(found, ".\n./5\n./a\n./a/b\n./a/b/2\n./a/b/c\n./a/b/c/3\n");
    let mode = fs::metadata(place.at("out/a")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o711);
    let said = failure(&place.sh("$PUZZLEFS extract L:x none a/b a/none"));
    assert!(said.contains("a/none: not in the image"), "{said}");
    assert!(!place.at("none").exists());
}
