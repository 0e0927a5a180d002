// SPDX-License-Identifier: Apache-2.0
//! A bundle says what the image says, and no more; it is there as a whole or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::command::{failure, success, PUZZLEFS};
use crate::common::scratch;
use serde_json::{json, Value};

struct Place(tempfile::TempDir);

impl Place {
    /// An image of a tree that a script makes in `t`, with a config.
    fn new(script: &str, config: &Value) -> Self {
        let place = Place(scratch());
        let whole = json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": []}});
        fs::write(place.at("config"), whole.to_string()).unwrap();
        success(&place.sh(&format!("mkdir t; cd t; {script}")));
        success(&place.sh("$PUZZLEFS build --no-cache --config config t L:x"));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sh(&self, script: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["120", "sh", "-euc", script]);
        command.env("PUZZLEFS", PUZZLEFS).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// The config.json of a bundle that is made with these arguments.
    fn spec(&self, arguments: &str) -> Value {
        let script =
            format!("rm -rf B; $PUZZLEFS bundle --no-mount {arguments}; cat B/config.json >spec");
        success(&self.sh(&script));
        serde_json::from_slice(&fs::read(self.at("spec")).unwrap()).unwrap()
    }
}

const USERS: &str =
    "mkdir etc; printf 'root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\ncert:x:105:web\n' >etc/group";

fn service() -> Value {
    json!({"User": "web", "Env": ["A=1", "PATH=/bin"], "Entrypoint": ["serve"], "Cmd": ["-d", "a b"],
        "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "Labels": {"run.oci.handler": "evil"}})
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn it_says_what_the_image_says() {
    let place = Place::new(USERS, &service());
    let spec = place.spec("L:x B");
    let process = &spec["process"];
    assert_eq!(
        process["user"],
        json!({"uid": 33, "gid": 34, "additionalGids": [105]})
    );
    assert_eq!(process["args"], json!(["serve", "-d", "a b"]));
    assert_eq!(
        process["env"],
        json!(["PATH=/bin", "container=oci", "HOME=/srv/web", "A=1"])
    );
    assert_eq!(
        (&process["cwd"], &process["terminal"]),
        (&json!("/srv"), &json!(false))
    );
    let capabilities = &process["capabilities"];
    assert_eq!(capabilities["bounding"].as_array().unwrap().len(), 11);
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(capabilities[set], json!([]), "{set}");
    }
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": false}));
    assert_eq!(spec["hostname"], "B");
    // A label gives no orders to runtimes.
    let annotations = spec["annotations"].as_object().unwrap();
    assert_eq!(annotations.len(), 2, "{annotations:?}");
    assert_eq!(
        annotations["org.opencontainers.image.stopSignal"],
        "SIGQUIT"
    );
    let image = annotations["io.puzzlefsoci.puzzlefs.image"]
        .as_str()
        .unwrap();
    assert!(image.contains("/L@sha256:"), "{image}");
    let masked = spec["linux"]["maskedPaths"].as_array().unwrap();
    assert!(masked.contains(&json!("/proc/kcore")));
    let kinds = |spec: &Value| {
        let list = spec["linux"]["namespaces"].as_array().unwrap().clone();
        list.iter()
            .map(|it| it["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&spec), ["pid", "ipc", "uts", "mount", "cgroup"]);
    assert_eq!(
        fs::metadata(place.at("B")).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert!(is_empty(&place.at("B/rootfs")));
    assert_eq!(place.spec("L:x B").to_string(), spec.to_string());

    let spec = place.spec(
        "-e B=2 -e NONE -u root -w /tmp --read-only --network none --hostname h -t -v t:/mnt/t:ro L:x B -x",
    );
    let process = &spec["process"];
    assert_eq!(process["args"], json!(["serve", "-x"]));
    assert_eq!(
        process["user"],
        json!({"uid": 0, "gid": 0, "additionalGids": []})
    );
    assert_eq!(
        process["capabilities"]["effective"]
            .as_array()
            .unwrap()
            .len(),
        11
    );
    let env = json!([
        "PATH=/bin",
        "container=oci",
        "HOME=/root",
        "TERM=xterm",
        "A=1",
        "B=2"
    ]);
    assert_eq!((&process["env"], &process["cwd"]), (&env, &json!("/tmp")));
    assert_eq!(
        (&spec["hostname"], &spec["root"]["readonly"]),
        (&json!("h"), &json!(true))
    );
    assert_eq!(kinds(&spec).last().unwrap(), "network");
    let bind = spec["mounts"].as_array().unwrap().last().unwrap();
    let options = json!(["rbind", "rprivate", "nodev", "ro"]);
    assert_eq!(bind["options"], options);
    assert_eq!(
        bind["source"].as_str(),
        place.at("t").canonicalize().unwrap().to_str()
    );
    let spec = place.spec("--entrypoint '' L:x B sh -c 'echo x'");
    assert_eq!(spec["process"]["args"], json!(["sh", "-c", "echo x"]));
}

#[test]
fn volumes_begin_with_what_the_image_has() {
    let volumes = json!({"/data": {}, "/new": {}, "/link/deep": {}, "/data/below": {}});
    let place = Place::new(
        "mkdir -p data/below real/deep; echo 1 >data/file; echo 2 >data/below/file; echo 3 >real/deep/file
         chmod 700 data; ln -s /real link; ln -s /etc data/out",
        &json!({"Cmd": ["sh"], "Volumes": volumes}),
    );
    let spec = place.spec("L:x B");
    let binds: Vec<(String, PathBuf)> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mount| {
            let source = mount["source"]
                .as_str()
                .filter(|source| source.contains("/volumes/"))?;
            Some((
                mount["destination"].as_str().unwrap().to_owned(),
                source.into(),
            ))
        })
        .collect();
    let targets: Vec<&str> = binds.iter().map(|(target, _)| &**target).collect();
    assert_eq!(targets, ["/data", "/data/below", "/link/deep", "/new"]);
    let read = |index: usize, name: &str| fs::read_to_string(binds[index].1.join(name)).unwrap();
    assert_eq!(
        (read(0, "file"), read(0, "below/file")),
        ("1\n".into(), "2\n".into())
    );
    assert_eq!(
        (read(1, "file"), read(2, "file")),
        ("2\n".into(), "3\n".into())
    );
    assert_eq!(
        fs::metadata(&binds[0].1).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert!(is_empty(&binds[3].1));
    assert_eq!(fs::read_dir(place.at("B/volumes")).unwrap().count(), 4);
    success(&place.sh("$PUZZLEFS bundle --remove B"));
    assert!(!place.at("B").exists());
}

/// What cannot be done leaves nothing.
#[test]
fn half_a_bundle_is_none() {
    let whole = service();
    let with = |key: &str, value: Value| {
        let mut config = whole.clone();
        config[key] = value;
        config
    };
    let many: serde_json::Map<String, Value> =
        (0..65).map(|n| (format!("/{n}"), json!({}))).collect();
    for (config, tree, says) in [
        (with("User", json!("nobody")), USERS, "has no nobody"),
        (with("User", json!("web:none")), USERS, "has no none"),
        (with("Cmd", json!(["a\0b"])), USERS, "NUL"),
        (with("Env", json!(["A=\0"])), USERS, "NUL"),
        (with("WorkingDir", json!("/\0")), USERS, "NUL"),
        (json!({}), USERS, "does not say what to run"),
        (
            with("Volumes", json!({"/proc/x": {}})),
            USERS,
            "can be mounted there",
        ),
        (
            with("Volumes", json!({"/x/../..": {}})),
            USERS,
            "can be mounted there",
        ),
        (with("Volumes", Value::Object(many)), USERS, "65 volumes"),
        // The way there is of the image.
        (
            with("Volumes", json!({"/a": {}, "/v": {}})),
            "ln -s /proc v; mkdir a proc",
            "can be mounted there",
        ),
        (
            with("Volumes", json!({"/a": {}, "/v": {}})),
            "touch v; mkdir a",
            "no directory",
        ),
        (whole.clone(), "mkdir -p etc/passwd", "no regular file"),
        (
            whole.clone(),
            "mkdir etc; truncate -s 5M etc/passwd",
            "more than",
        ),
        (
            whole.clone(),
            "mkdir etc; truncate -s 1T etc/group",
            "more than",
        ),
    ] {
        let config = match tree {
            USERS => config,
            _ if config["Volumes"].is_null() => config,
            // Nobody is looked up.
            _ => {
                let mut config = config;
                config["User"] = json!("7");
                config
            }
        };
        let place = Place::new(tree, &config);
        let said = failure(&place.sh("$PUZZLEFS bundle --no-mount L:x B"));
        assert!(said.contains(says), "{config}: {said}");
        assert!(!place.at("B").exists(), "{config}");
    }
    let place = Place::new(USERS, &whole);
    // Where there is no module the last step fails.
    let is_mounted = fs::read_to_string("/proc/filesystems")
        .unwrap()
        .contains("puzzlefs");
    if !is_mounted {
        failure(&place.sh("$PUZZLEFS bundle L:x B"));
        assert!(!place.at("B").exists());
    }
    let said = failure(&place.sh("$PUZZLEFS bundle --no-mount -v /none:/x L:x B"));
    assert!(said.contains("/none") && !place.at("B").exists(), "{said}");
    let said = failure(&place.sh("mkdir B; $PUZZLEFS bundle --no-mount L:x B"));
    assert!(
        said.contains("is there already") && is_empty(&place.at("B")),
        "{said}"
    );
}

#[test]
fn only_bundles_are_removed() {
    let place = Place::new(USERS, &service());
    success(&place.sh(
        "$PUZZLEFS bundle --no-mount L:x B; mkdir -p B/upper/a B/work/work; touch B/upper/a/f",
    ));
    let script = "touch B/mine; ! $PUZZLEFS bundle --remove B 2>said; test -e B/upper/a/f; rm B/mine
        touch B/rootfs/mine; ! $PUZZLEFS bundle --remove B 2>>said; test -e B/upper/a/f; rm B/rootfs/mine
        mv B/config.json .; ! $PUZZLEFS bundle --remove B 2>>said; test -e B/upper/a/f
        ln -s ../config.json B/config.json; ! $PUZZLEFS bundle --remove B 2>>said; rm B/config.json
        echo '{}' >B/config.json; ! $PUZZLEFS bundle --remove B 2>>said; test -e B/upper/a/f
        mv config.json B; $PUZZLEFS bundle --remove B; test ! -e B; ! $PUZZLEFS bundle --remove B 2>>said; cat said";
    let said = success(&place.sh(script));
    assert!(said.contains("mine is no part of a bundle"), "{said}");
    assert_eq!(
        said.matches("is no bundle that puzzlefs has made").count(),
        3,
        "{said}"
    );
}
