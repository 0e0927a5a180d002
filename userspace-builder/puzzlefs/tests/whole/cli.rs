// SPDX-License-Identifier: Apache-2.0
//! The command itself: help, output forms, exit status.

use std::fs;
use std::process::{Command, Output};

use crate::common::{everything, scratch};
use serde_json::Value;

fn puzzlefs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_puzzlefs"))
        .args(args)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The names that `puzzlefs --help` lists.
fn commands() -> Vec<String> {
    let help = stdout(&puzzlefs(&["-h"]));
    let list = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let names = list
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_owned).collect()
}

#[test]
fn each_command_shows_an_example() {
    let commands = commands();
    assert!(commands.len() >= 9, "{commands:?}");
    for command in commands {
        let help = stdout(&puzzlefs(&[&command, "--help"]));
        assert!(
            help.contains(&format!("Example:\n  puzzlefs {command} ")),
            "{help}"
        );
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = scratch();
    stdout(&puzzlefs(&["man", dir.path().to_str().unwrap()]));
    let names = commands();
    let second = ["profile-record".to_owned()];
    let names = names
        .iter()
        .chain(&second)
        .map(|c| format!("man1/puzzlefs-{c}.1"));
    let names: Vec<String> = names
        .chain(["man1/puzzlefs.1".into(), "man8/mount.puzzlefs.8".into()])
        .collect();
    for page in &names {
        let text = fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.starts_with(".ie"), "{page}");
        for title in ["EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            assert!(text.contains(title), "{page}: {title}");
        }
        let (_, also) = text.split_once("SEE ALSO").unwrap();
        let is_own = page.contains("mount.puzzlefs");
        assert_eq!(also.contains("mount.puzzlefs(8)"), !is_own, "{page}");
    }
    let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page("man8/mount.puzzlefs.8").contains(".TH mount.puzzlefs 8"));
    assert!(page("man1/puzzlefs-build.1").contains("SOURCE_DATE_EPOCH"));
    // What the page says of the status is what there is.
    assert!(page("man1/puzzlefs-verify.1").contains("\\fB3\\fR"));
    let pages = ["man1", "man8"].map(|d| fs::read_dir(dir.path().join(d)).unwrap().count());
    assert_eq!(pages.iter().sum::<usize>(), names.len());
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&puzzlefs(&["completions", shell])).contains("inspect"));
    }
}

#[test]
fn reports_are_json_on_request() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    everything(&root);
    let image = format!("{}:tag", dir.path().join("layout").display());
    let json = |args: &[&str]| -> Value { serde_json::from_str(&stdout(&puzzlefs(args))).unwrap() };
    let built = json(&["build", "--format", "json", root.to_str().unwrap(), &image]);
    let inspected = json(&["inspect", "--format", "json", &image]);
    let verified = json(&["verify", "--format", "json", &image]);
    assert_eq!(built["manifest"], inspected["manifest"]);
    assert_eq!(built["inodes"], inspected["inodes"]);
    assert_eq!(built["chunk_bytes"], inspected["stored_bytes"]);
    assert_eq!(verified["errors"], serde_json::json!([]));

    let listing = stdout(&puzzlefs(&["ls", "-R", "--format", "json", &image]));
    let items: Vec<Value> = listing
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        items.len() + 1,
        inspected["names"].as_u64().unwrap() as usize
    );
    let bytes = items.iter().find_map(|i| i["path_hex"].as_str()).unwrap();
    assert!(bytes.starts_with("2ffffe20"), "{bytes}");
    let text = stdout(&puzzlefs(&["ls", "-l", &image, "/deep"]));
    assert!(text.contains("/deep/link -> ../bin/tool\n"), "{text}");
    assert!(stdout(&puzzlefs(&["ls", &image])).contains("/\\xff\\xfe not UTF-8 \\n\n"));
}

/// The commands about a layout as a whole, in an order in which they make sense.
#[test]
fn a_layout_is_tended() {
    let dir = scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    everything(&root);
    let (root, layout) = (root.to_str().unwrap(), layout.to_str().unwrap());
    let image = |tag: &str| format!("{layout}:{tag}");
    let json = |args: &[&str]| -> Value { serde_json::from_str(&stdout(&puzzlefs(args))).unwrap() };
    stdout(&puzzlefs(&[
        "build",
        "--layout",
        "loose",
        root,
        &image("loose"),
    ]));
    let built = json(&[
        "build",
        "--format",
        "json",
        "--layout",
        "packs",
        root,
        &image("packs"),
    ]);
    assert_eq!(built["packs"], 0, "the loose chunks serve");

    let report = json(&["repack", "--gc", "--format", "json", layout]);
    assert_eq!(report["images"].as_array().unwrap().len(), 1);
    assert_eq!(
        report["images"][0]["tags"],
        serde_json::json!(["loose", "packs"])
    );
    assert!(report["gc"]["removed_bytes"].as_u64().unwrap() > 0);
    let report = json(&["du", "--format", "json", layout, "packs"]);
    assert_eq!(report["images"][0]["own"]["bytes"], built["chunk_bytes"]);
    let text = stdout(&puzzlefs(&["du", layout]));
    assert!(text.contains("  loose packs\n"), "{text}");

    stdout(&puzzlefs(&["rm", &image("loose")]));
    assert!(!puzzlefs(&["rm", &image("loose")]).status.success());
    assert_eq!(
        json(&["gc", "--format", "json", layout])["removed"],
        serde_json::json!([])
    );
    let text = stdout(&puzzlefs(&["unpack", "--gc", layout, "packs"]));
    assert!(text.starts_with("converted  sha256:"), "{text}");
    stdout(&puzzlefs(&["verify", &image("packs")]));
    let text = stdout(&puzzlefs(&["rm", "--gc", &image("packs")]));
    assert!(text.contains("in use     0 blobs"), "{text}");
}

#[test]
fn failures_say_what_and_have_a_status() {
    let dir = scratch();
    let layout = dir.path().join("layout");
    let image = format!("{}:tag", layout.display());
    let fails = |args: &[&str], message: &str| {
        let output = puzzlefs(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(message),
            "{args:?}: {text}"
        );
    };
    fails(&["inspect", &image], "is no OCI layout");
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    stdout(&puzzlefs(&["build", root.to_str().unwrap(), &image]));
    fails(
        &["inspect", &format!("{}:other", layout.display())],
        "has no tag other; it has: tag",
    );
    fails(&["inspect", "no-tag"], "OCI_DIR:TAG");
    fails(
        &[
            "build",
            "--compression",
            "zstd:23",
            root.to_str().unwrap(),
            &image,
        ],
        "levels 1 to 22",
    );
    fails(
        &["build", "--base", "none", root.to_str().unwrap(), &image],
        "has no tag none",
    );
    fails(&["ls", &image, "/file/below"], "no directory");
    fails(&["extract", &image, layout.to_str().unwrap()], "not empty");
    fails(
        &[
            "build",
            root.to_str().unwrap(),
            &format!("{}:x", root.join("in").display()),
        ],
        "inside the tree",
    );
    assert!(!root.join("in").exists());
    // What is of fetching means nothing to the kernel.
    for option in [
        "--rate=1M",
        "--from=docker://h/r:t",
        "--on-failure=wait",
        "--plain-http",
        "--fill",
    ] {
        fails(&["mount", option, &image, "/mnt"], "--fuse");
    }
}
