// SPDX-License-Identifier: Apache-2.0
//! What registries.conf says is done: where a mirror fails in the middle of a blob, the next place gives the rest,
//! and short names stand for what it says.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::command::{failure, success, PUZZLEFS};
use crate::common::pulls::{assert_whole, manifest, tree};
use crate::common::server::{Fault, Server};
use crate::common::{build_into, faults, options, scratch};

/// Pulls `source` as `to:v`, with this registries.conf.
fn pull(dir: &Path, source: &str, conf: &str, more: &[&str]) -> Output {
    let path = dir.join("registries.conf");
    fs::write(&path, conf).unwrap();
    let mut command = Command::new("timeout");
    let to = format!("{}:v", dir.join("to").display());
    command
        .args(["120", PUZZLEFS, "pull", "--plain-http"])
        .args(more);
    command
        .args([source, &to])
        .env("CONTAINERS_REGISTRIES_CONF", path);
    command.env_remove("http_proxy").env_remove("HTTP_PROXY");
    command.output().unwrap()
}

/// Pulls `registry/a:v` with these mirrors.
fn pull_by(dir: &Path, registry: &Server, mirrors: &[&Server], more: &[&str]) -> Output {
    let mut conf = format!("[[registry]]\nlocation = \"{}\"\n", registry.address);
    for mirror in mirrors {
        conf += &format!("[[registry.mirror]]\nlocation = \"{}\"\n", mirror.address);
    }
    let source = format!("docker://{}/a:v", registry.address);
    pull(dir, &source, &conf, more)
}

#[test]
fn the_next_place_gives_the_rest() {
    for fault in [Fault::Quarters(2), Fault::WholeHalves] {
        let dir = scratch();
        let from = dir.path().join("from");
        tree(&dir.path().join("root"), 8);
        build_into(&dir.path().join("root"), &from, "v", &options());
        let registry = Server::new(&from, Fault::None);
        let mirrors = [fault, Fault::Quarters(3)].map(|fault| Server::new(&from, fault));
        let [first, second] = &mirrors;
        success(&pull_by(dir.path(), &registry, &[first, second], &[]));
        let to = dir.path().join("to");
        assert_eq!(manifest(&to, "v"), manifest(&from, "v"));
        assert_eq!(faults(&to, "v"), [""; 0]);
        assert_whole(&to);
        // It was asked only for what was missing.
        let asked = registry.asked();
        assert!(!asked.is_empty());
        assert!(
            asked
                .iter()
                .all(|(_, from)| from.is_some_and(|from| from > 0)),
            "{asked:?}"
        );
        assert!(second.asked().iter().any(|(_, from)| *from > Some(0)));
    }
}

#[test]
fn who_gives_wrong_bytes_is_asked_no_more() {
    for all in [false, true] {
        let dir = scratch();
        let from = dir.path().join("from");
        tree(&dir.path().join("root"), 8);
        build_into(&dir.path().join("root"), &from, "v", &options());
        let registry = Server::new(&from, Fault::None);
        let mirror = Server::new(&from, Fault::Wrong(all));
        let to = dir.path().join("to");
        if !all {
            // Most of it is here, so that the rest comes by ranges.
            fs::remove_file(dir.path().join("root/003")).unwrap();
            build_into(&dir.path().join("root"), &to, "old", &options());
        }
        success(&pull_by(dir.path(), &registry, &[&mirror], &[]));
        assert_eq!(faults(&to, "v"), [""; 0]);
        assert!(!mirror.asked().is_empty() && !registry.asked().is_empty());
        // Nobody stands behind a registry that does the same.
        if all {
            fs::remove_dir_all(&to).unwrap();
            let output = pull_by(dir.path(), &mirror, &[], &[]);
            assert_eq!(output.status.code(), Some(3), "{}", failure(&output));
        }
    }
}

/// If all fail it is said of the last one.
#[test]
fn nobody_is_left_in_the_end() {
    let dir = scratch();
    let from = dir.path().join("from");
    tree(&dir.path().join("root"), 8);
    build_into(&dir.path().join("root"), &from, "v", &options());
    let servers = [(); 2].map(|()| Server::new(&from, Fault::WholeHalves));
    let [registry, mirror] = &servers;
    let output = pull_by(dir.path(), registry, &[mirror], &["--retry-times=1"]);
    let said = failure(&output);
    assert!(said.contains(&registry.address.to_string()), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let manifests = fs::read_dir(dir.path().join("to/blobs/sha256")).unwrap();
    assert!(!manifests.into_iter().any(|name| {
        let name = name.unwrap().file_name();
        fs::metadata(dir.path().join("to/blobs/sha256").join(name))
            .unwrap()
            .len()
            > 500_000
    }));
}

#[test]
fn short_names_stand_for_what_is_said() {
    let dir = scratch();
    let from = dir.path().join("from");
    tree(&dir.path().join("root"), 1);
    build_into(&dir.path().join("root"), &from, "v", &options());
    let registry = Server::new(&from, Fault::None);
    let address = registry.address;
    let alias = format!("[aliases]\napp = \"{address}/team/a\"");
    let search = format!("unqualified-search-registries = [\"{address}\"]");
    for (source, conf) in [
        ("app:v", &alias),
        ("b/c:v", &search),
        (&*format!("{address}/x:v"), &String::new()),
    ] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        success(&pull(dir.path(), source, conf, &[]));
        assert_eq!(manifest(&dir.path().join("to"), "v"), manifest(&from, "v"));
    }
    let several = format!("unqualified-search-registries = [\"{address}\", \"docker.io\"]");
    let asked = registry.asked().len();
    for (source, conf) in [("app:v", &several), ("other:v", &alias)] {
        let output = pull(dir.path(), source, conf, &[]);
        let said = failure(&output);
        assert!(said.contains("docker://HOST/"), "{said}");
        assert_eq!(output.status.code(), Some(64), "{said}");
    }
    assert_eq!(registry.asked().len(), asked);
    assert!(!dir.path().join("to").exists());
}
