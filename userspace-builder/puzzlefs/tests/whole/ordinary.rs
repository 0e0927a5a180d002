// SPDX-License-Identifier: Apache-2.0
//! Ordinary images and tars are converted into what a build of the same tree gives.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::command::{failure, puzzlefs, success, PUZZLEFS};
use crate::common::ordinary::{entry, ordinary, tar_of, write_index, Place};
use rustix::fs::XattrFlags;
use serde_json::{json, Value};

/// Of all that a tar can hold: long names, links of both kinds, holes, a fifo, odd permissions. Times
/// are whole seconds, since not each format has more.
const TREE: &str = r#"
    umask 022
    mkdir -p t/sub/empty t/d
    echo small >t/small
    : >t/empty
    head -c 700000 /dev/urandom >t/sub/large
    ln t/sub/large t/second
    ln -s ../nowhere t/sub/link
    mkfifo t/fifo
    chmod 4750 t/small; chmod 1777 t/d
    long=$(printf %0200d 0)
    mkdir t/$long t/$long/$long
    echo deep >t/$long/$long/$long
    ln -s $long/$long/$long t/to-long
    ln t/$long/$long/$long t/$long/link-of-long
    truncate -s 3M t/sparse t/hole
    for at in 8192 1000000 1048576 2900000; do
        echo data | dd of=t/sparse bs=1 seek=$at conv=notrunc status=none
    done
    for i in $(seq 60); do
        echo data | dd of=t/many bs=1 seek=$((i * 65536)) conv=notrunc status=none
    done
    find t -exec touch -h -d @1700000000 {} +
"#;

#[test]
fn a_tar_gives_what_a_build_of_its_tree_gives() {
    let place = Place::new();
    place.sh(TREE);
    for (name, key, value) in [
        ("t/small", "user.text", &b"value"[..]),
        ("t/sub", "user.binary", b"\n=\0\xff\n9 a=b\n"),
    ] {
        rustix::fs::setxattr(place.at(name), key, value, XattrFlags::empty()).unwrap();
    }
    let built = place.build("t");
    let forms = [
        "--format=gnu",
        "--format=gnu --sparse",
        "--format=posix",
        "--format=posix --sparse --sparse-version=0.0",
        "--format=posix --sparse --sparse-version=0.1",
        "--format=posix --sparse --sparse-version=1.0",
        "--format=posix --sort=name",
    ];
    for form in forms {
        // GNU's own format has no place for extended attributes.
        let xattrs = match form.contains("gnu") {
            true => "--format=gnu",
            false => "--xattrs --xattrs-include=user.*",
        };
        place.sh(&format!("tar -C t {form} {xattrs} -cf t.tar ."));
        let report = place.convert("tar", "t.tar");
        if form.contains("gnu") {
            assert_eq!(report["inodes"], built["inodes"], "{form}");
            assert_eq!(report["chunks"], built["chunks"], "{form}");
        } else {
            assert_eq!(report["rootfs"], built["rootfs"], "{form}");
        }
    }
    // In another order, and not as a layer.
    place.sh(
        "cd t; find . | sort -r >../list; tar --no-recursion --format=posix \
        --xattrs --xattrs-include='user.*' -T ../list -cf ../t.tar; gzip -k ../t.tar",
    );
    for tar in ["t.tar", "t.tar.gz"] {
        assert_eq!(place.convert("tar", tar)["rootfs"], built["rootfs"]);
    }
}

#[test]
fn a_tar_comes_by_standard_input() {
    let place = Place::new();
    place.sh("mkdir t; echo text >t/a; tar -C t --format=posix -cf t.tar .");
    let image = format!("{}:x", place.at("L").display());
    let mut command = Command::new(PUZZLEFS);
    let command = command.args(["convert", "--format", "json", "-", &image]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tar = fs::read(place.at("t.tar")).unwrap();
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    let report: Value = serde_json::from_str(&success(&child.wait_with_output().unwrap())).unwrap();
    assert_eq!(report["rootfs"], place.build("t")["rootfs"]);
}

fn json_of(place: &Place, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    let text = fs::read(place.at("L/blobs/sha256").join(hex)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_config_is_kept_and_names_our_layers() {
    let place = Place::new();
    fs::create_dir_all(place.at("O/blobs/sha256")).unwrap();
    let lower = tar_of(&place, "echo 1 >a; echo 1 >b");
    let upper = tar_of(&place, "echo 2 >a; : >.wh.b");
    let manifest = ordinary(&place.at("O"), &[lower, upper], "kept");
    write_index(&place, &json!([entry(&place, &manifest, "v")]));
    let report = place.convert("oci", "O:v");
    assert_eq!(report["inodes"], 2);
    let new = json_of(&place, &report["manifest"]);
    assert_eq!(new["annotations"]["org.example.key"], "kept");
    assert_eq!(
        new["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    let config = json_of(&place, &new["config"]["digest"]);
    let old = fs::read(
        place
            .at("O/blobs/sha256")
            .join(&manifest["config"]["digest"].as_str().unwrap()[7..]),
    );
    let old: Value = serde_json::from_slice(&old.unwrap()).unwrap();
    for key in ["architecture", "os", "created", "author", "config"] {
        assert_eq!(config[key], old[key], "{key}");
    }
    let layers = new["layers"].as_array().unwrap();
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(json!(digests), config["rootfs"]["diff_ids"]);
    let history = config["history"].as_array().unwrap();
    assert_eq!(
        history[0],
        json!({"created_by": "RUN x", "empty_layer": true})
    );
    assert_eq!(history.len(), 1 + layers.len());
}

#[test]
fn an_index_is_for_several_platforms() {
    let place = Place::new();
    fs::create_dir_all(place.at("O/blobs/sha256")).unwrap();
    let mut manifests = Vec::new();
    for (architecture, variant) in [
        ("amd64", None),
        ("arm64", None),
        ("arm", Some("v6")),
        ("arm", Some("v7")),
    ] {
        let name = format!("{architecture}{}", variant.unwrap_or_default());
        let tar = tar_of(&place, &format!("echo x >{name}"));
        let mut entry = entry(&place, &ordinary(&place.at("O"), &[tar], ""), "");
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            entry["platform"]["variant"] = variant.into();
        }
        entry["platform"]["os.features"] = json!(["f"]);
        manifests.push(entry);
    }
    // What BuildKit says of an image, which is none.
    let attestation = entry(&place, &ordinary(&place.at("O"), &[], ""), "");
    manifests.push(attestation);
    manifests[4]["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
    });
    write_index(&place, &json!([entry(&place, &index, "all")]));
    let source = format!("oci:{}:all", place.at("O").display());
    let image = format!("{}:x", place.at("L").display());
    let convert = |platform: &[&str]| {
        puzzlefs(&[&["convert", "--no-cache"], platform, &[&source, &image]].concat())
    };
    let ls = || success(&puzzlefs(&["ls", &image]));
    success(&convert(&[]));
    assert!(ls().contains(if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    }));
    success(&convert(&["--platform", "linux/arm64"]));
    assert!(ls().contains("arm64"));
    success(&convert(&["--platform", "linux/arm/v7"]));
    assert!(ls().contains("armv7"));
    let text = failure(&convert(&["--platform", "linux/s390x"]));
    assert!(
        text.contains("linux/arm/v6") && text.contains("--platform"),
        "{text}"
    );
    assert_eq!(
        convert(&["--platform", "linux/s390x"]).status.code(),
        Some(4)
    );
    failure(&convert(&["--platform", "linux"]));

    let all = success(&convert(&["--all", "--format=json"]));
    let all: Value = serde_json::from_str(&all).unwrap();
    let images = all["images"].as_array().unwrap();
    assert_eq!(images.len(), 4);
    let index = fs::read(
        place
            .at("L/blobs/sha256")
            .join(all["index"].as_str().unwrap()),
    )
    .unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    for (((image, entry), old), name) in images
        .iter()
        .zip(index["manifests"].as_array().unwrap())
        .zip(&manifests)
        .zip(["amd64", "arm64", "armv6", "armv7"])
    {
        assert_eq!(entry["platform"], old["platform"]);
        let digest = entry["digest"].as_str().unwrap();
        assert_eq!(
            digest,
            format!("sha256:{}", image["manifest"].as_str().unwrap())
        );
        let image = format!("{}@{digest}", place.at("L").display());
        assert!(success(&puzzlefs(&["ls", &image])).contains(name));
        success(&puzzlefs(&["verify", &image]));
    }
    assert!(ls().contains(if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    }));
    // gc leaves all of it.
    success(&puzzlefs(&["gc", place.at("L").to_str().unwrap()]));
    for entry in index["manifests"].as_array().unwrap() {
        let image = format!(
            "{}@{}",
            place.at("L").display(),
            entry["digest"].as_str().unwrap()
        );
        success(&puzzlefs(&["verify", &image]));
    }
    let text = failure(&convert(&["--all", "--platform=linux/arm64"]));
    assert!(text.contains("cannot be used with"), "{text}");
}

#[test]
fn each_transport_leads_to_the_same_image() {
    let place = Place::new();
    fs::create_dir_all(place.at("O/blobs/sha256")).unwrap();
    let tar = tar_of(&place, "mkdir d; echo text >d/a");
    let manifest = ordinary(&place.at("O"), std::slice::from_ref(&tar), "");
    write_index(&place, &json!([entry(&place, &manifest, "v")]));
    let rootfs = place.build("l")["rootfs"].clone();
    assert_eq!(place.convert("oci", "O:v")["rootfs"], rootfs);
    assert_eq!(place.convert("oci", "O")["rootfs"], rootfs);
    place.sh("tar -C O -cf O.tar .");
    assert_eq!(place.convert("oci-archive", "O.tar")["rootfs"], rootfs);
    assert_eq!(place.convert("oci-archive", "O.tar:v")["rootfs"], rootfs);
    // The same blobs, as `skopeo copy` puts them into a directory.
    place.sh("cp -r O/blobs/sha256 D");
    fs::write(place.at("D/manifest.json"), manifest.to_string()).unwrap();
    assert_eq!(place.convert("dir", "D")["rootfs"], rootfs);
    // `docker save` of old names a layer twice, the second time by a link.
    let config = manifest["config"]["digest"].as_str().unwrap()[7..].to_owned();
    fs::create_dir_all(place.at("S/layer")).unwrap();
    fs::write(place.at("S/real.tar"), &tar).unwrap();
    place.sh(&format!(
        "cp O/blobs/sha256/{config} S/{config}.json; ln -s ../real.tar S/layer/layer.tar"
    ));
    let saved = json!([{
        "Config": format!("{config}.json"), "RepoTags": ["app:latest"], "Layers": ["layer/layer.tar"],
    }]);
    fs::write(place.at("S/manifest.json"), saved.to_string()).unwrap();
    place.sh("tar -C S -cf S.tar .");
    assert_eq!(place.convert("docker-archive", "S.tar")["rootfs"], rootfs);
    assert_eq!(
        place.convert("docker-archive", "S.tar:app")["rootfs"],
        rootfs
    );
    let source = format!("docker-archive:{}:other", place.at("S.tar").display());
    assert!(place.refused(&source).contains("app:latest"));
}

#[test]
fn what_is_damaged_or_none_of_these_is_refused() {
    let place = Place::new();
    fs::create_dir_all(place.at("O/blobs/sha256")).unwrap();
    let tar = tar_of(&place, "head -c 300000 /dev/urandom >a");
    let manifest = ordinary(&place.at("O"), &[tar], "");
    write_index(&place, &json!([entry(&place, &manifest, "v")]));
    let source = format!("oci:{}:v", place.at("O").display());
    let digest = manifest["layers"][0]["digest"].as_str().unwrap()[7..].to_owned();
    let blob = place.at("O/blobs/sha256").join(&digest);
    let whole = fs::read(&blob).unwrap();
    let mut damaged = whole.clone();
    damaged[150_000] ^= 1;
    for content in [
        &damaged[..],
        &whole[..150_000],
        &[&whole[..], b"more"].concat(),
    ] {
        fs::write(&blob, content).unwrap();
        let text = place.refused(&source);
        assert!(text.contains(&digest), "{text}");
    }
    fs::remove_file(&blob).unwrap();
    assert!(place.refused(&source).contains(&digest));
    fs::write(&blob, &whole).unwrap();
    place.convert("oci", "O:v");

    let refused = |transport: &str, at: &str| {
        place.refused(&format!("{transport}:{}", place.at(at).display()))
    };
    assert!(refused("oci", "O:other").contains("it has: v"));
    refused("oci", "none");
    refused("dir", "O");
    refused("tar", "none.tar");
    fs::write(place.at("no.tar"), "text").unwrap();
    refused("tar", "no.tar");
    refused("oci-archive", "no.tar");
    place.sh("tar -C O -czf O.tgz .");
    assert!(refused("oci-archive", "O.tgz").contains("gunzip"));
    let with = |key: &str, value: Value| {
        let mut other = manifest.clone();
        other["layers"][0][key] = value;
        write_index(&place, &json!([entry(&place, &other, "v")]));
        refused("oci", "O:v")
    };
    let ours = "application/vnd.puzzlefs.image.rootfs.v1";
    assert!(with("mediaType", ours.into()).contains("already"));
    let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    assert!(with("mediaType", encrypted.into()).contains("encrypted"));
    with("digest", format!("sha512:{}", "0".repeat(128)).into());
}
