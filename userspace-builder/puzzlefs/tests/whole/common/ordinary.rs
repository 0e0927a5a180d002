// SPDX-License-Identifier: Apache-2.0
//! Ordinary images, as tests make them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{json, Value};

use super::command::{failure, puzzlefs, success};
use super::layout::store;
use super::{faults, scratch};

pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Place { dir: scratch() }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a script here.
    pub fn sh(&self, script: &str) {
        let mut command = Command::new("sh");
        let status = command.args(["-euc", script]).current_dir(self.dir.path());
        assert!(status.status().unwrap().success(), "{script}");
    }

    /// What `convert` or `build` says of the new image, which is sound.
    pub fn made(&self, command: &str, source: &str, tag: &str) -> Value {
        let image = format!("{}:{tag}", self.at("L").display());
        let args = [command, "--no-cache", "--format", "json", source, &image];
        let report = serde_json::from_str(&success(&puzzlefs(&args))).unwrap();
        assert_eq!(faults(&self.at("L"), tag), [""; 0]);
        report
    }

    pub fn convert(&self, transport: &str, place: &str) -> Value {
        let source = format!("{transport}:{}", self.at(place).display());
        self.made("convert", &source, "converted")
    }

    pub fn build(&self, root: &str) -> Value {
        self.made("build", self.at(root).to_str().unwrap(), "built")
    }

    /// What is wrong with a source. Nothing is stored, and no layout made.
    pub fn refused(&self, source: &str) -> String {
        let image = format!("{}:x", self.at("none").display());
        let text = failure(&puzzlefs(&["convert", source, &image]));
        assert_eq!(names(&self.at("none/blobs/sha256")), [""; 0], "{text}");
        text
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let list = fs::read_dir(dir).into_iter().flatten();
    list.map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// An ordinary image of some tars, the lowest layer first, in the layout at `dir`; its manifest.
pub fn ordinary(dir: &Path, tars: &[Vec<u8>], annotation: &str) -> Value {
    let layers: Vec<Value> = tars
        .iter()
        .map(|tar| stored(dir, "application/vnd.oci.image.layer.v1.tar", tar))
        .collect();
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2023-11-14T22:13:20Z", "author": "somebody",
        "config": {
            "Env": ["A=b"], "Entrypoint": ["/bin/x"], "Cmd": ["y"], "User": "1:2", "WorkingDir": "/w",
            "Labels": {"l": "m"}, "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT",
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "RUN x"}],
    });
    let config = config.to_string();
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": stored(dir, "application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": layers,
        "annotations": {"org.example.key": annotation},
    })
}

pub fn stored(dir: &Path, media_type: &str, content: &[u8]) -> Value {
    let (digest, size) = store(dir, content);
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

pub fn tar_of(place: &Place, script: &str) -> Vec<u8> {
    place.sh(&format!(
        "rm -rf l; mkdir l; (cd l; {script}); tar -C l --format=posix -cf l.tar ."
    ));
    fs::read(place.at("l.tar")).unwrap()
}

/// A layout `O` with the index.json `index`.
pub fn write_index(place: &Place, manifests: &Value) {
    fs::write(
        place.at("O/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(place.at("O/index.json"), index.to_string()).unwrap();
}

pub fn entry(place: &Place, manifest: &Value, tag: &str) -> Value {
    let media_type = manifest["mediaType"].as_str().unwrap();
    let mut entry = stored(&place.at("O"), media_type, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    entry
}
