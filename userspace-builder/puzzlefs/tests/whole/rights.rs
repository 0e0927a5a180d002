// SPDX-License-Identifier: Apache-2.0
//! Extracting with the rights that one has: others than root, root without capabilities, root of a
//! user namespace. Root only can build what others may not restore, so these tests need root.

use std::fs;
use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{build_into, noise, options, snapshot};
use rustix::fs::{mknodat, FileType, Mode, XattrFlags, CWD};
use serde_json::Value;

const DEFAULT_ACL: &str = "system.posix_acl_default";
const ACCESS_ACL: &str = "system.posix_acl_access";
const NOBODY: u32 = 65534;

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    /// Where everybody can go, with a copy of the command that everybody can run.
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this needs root");
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_puzzlefs"), dir.path().join("puzzlefs")).unwrap();
        let case = Case { dir };
        fs::create_dir(case.at("tree")).unwrap();
        case.tree();
        build_into(&case.at("tree"), &case.at("layout"), "it", &options());
        case
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tree(&self) {
        let tree = self.at("tree");
        for name in ["closed/sub", "locked", "shared", "z"] {
            fs::create_dir_all(tree.join(name)).unwrap();
        }
        for name in [
            "closed/file",
            "closed/sub/leaf",
            "locked/file",
            "open",
            "user",
            "suid",
            "able",
        ] {
            fs::write(tree.join(name), name).unwrap();
        }
        fs::write(tree.join("users-suid"), "").unwrap();
        fs::hard_link(tree.join("closed/file"), tree.join("z/link")).unwrap();
        let zero = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            CWD,
            tree.join("null"),
            FileType::CharacterDevice,
            mode,
            zero,
        )
        .unwrap();
        mknodat(CWD, tree.join("fifo"), FileType::Fifo, mode, 0).unwrap();
        chown(tree.join("user"), Some(1000), Some(1000)).unwrap();
        chown(tree.join("closed"), Some(1000), Some(1000)).unwrap();
        chown(tree.join("closed/file"), Some(1001), Some(1001)).unwrap();
        chown(tree.join("users-suid"), Some(1000), Some(1000)).unwrap();
        for (name, mode) in [
            ("open", 0o777),
            ("suid", 0o6755),
            ("users-suid", 0o4755),
            ("shared", 0o2775),
            ("locked", 0o555),
            ("closed/file", 0o400),
            ("closed/sub", 0),
            ("closed", 0),
            ("user", 0o640),
            ("fifo", 0o666),
        ] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(tree.join(name), mode).unwrap();
        }
        let set = |name: &str, attribute: &str, value: &[u8]| {
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(tree.join(name), attribute, value, flags).unwrap();
        };
        let mut capability = [0; 20];
        capability[..8].copy_from_slice(&[0, 0, 0, 2, 0, 0x20, 0, 0]);
        set("able", "security.capability", &capability);
        set("able", "trusted.t", b"t");
        set("open", ACCESS_ACL, &acl());
    }

    /// Extracts into `out` as `by` has it: the exit status, and the report.
    fn extract(&self, by: &[&str], out: &Path) -> (Option<i32>, Value) {
        let script = "umask 027; exec \"$0\" extract --format json \"$1\" \"$2\"";
        let mut command = Command::new(by.first().unwrap_or(&"sh"));
        match by {
            [_, more @ ..] => command.args(more).args(["sh", "-c", script]),
            [] => command.args(["-c", script]),
        };
        command.arg(self.at("puzzlefs"));
        command.arg(format!("{}:it", self.at("layout").display()));
        let done = command.arg(out).output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        let report = serde_json::from_slice(&done.stdout);
        (
            done.status.code(),
            report.unwrap_or_else(|_| panic!("{by:?}: {text}")),
        )
    }

    /// A directory in which what is made gets access control lists.
    fn surroundings(&self, name: &str, owner: u32) -> PathBuf {
        let dir = self.at(name);
        fs::create_dir(&dir).unwrap();
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(&dir, DEFAULT_ACL, &acl(), flags).unwrap();
        chown(&dir, Some(owner), Some(owner)).unwrap();
        dir
    }
}

/// Of the owner, of user 1234, the group, the mask, others: all rights.
fn acl() -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, id) in [
        (1u16, u32::MAX),
        (2, 1234),
        (4, u32::MAX),
        (0x10, u32::MAX),
        (0x20, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(7u16.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn has_acl(path: &Path) -> bool {
    [ACCESS_ACL, DEFAULT_ACL].iter().any(|name| {
        let mut value = [0; 100];
        rustix::fs::lgetxattr(path, *name, &mut value[..]).is_ok()
    })
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// All names are there with their content, but for `without`; links are links.
fn assert_all_there(case: &Case, out: &Path, without: &[&str]) {
    let names = |root: &Path| -> Vec<PathBuf> { snapshot(root).into_keys().collect() };
    let mut wanted = names(&case.at("tree"));
    wanted.retain(|name| !without.iter().any(|w| Path::new(w) == name));
    assert_eq!(names(out), wanted);
    for name in &wanted {
        if case.at("tree").join(name).is_file() {
            let read = |root: &Path| fs::read(root.join(name)).unwrap();
            assert_eq!(read(out), read(&case.at("tree")), "{}", name.display());
        }
    }
    let ino = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
    assert_eq!(ino("closed/file"), ino("z/link"));
}

#[test]
fn root_restores_all() {
    let case = Case::new();
    for is_there in [false, true] {
        let dir = case.surroundings(&format!("in{is_there}"), 0);
        let out = dir.join("out");
        if is_there {
            fs::create_dir(&out).unwrap();
            assert!(has_acl(&out));
        }
        let (status, report) = case.extract(&[], &out);
        assert_eq!((status, &report["skipped"]), (Some(0), &0.into()));
        crate::common::assert_same_tree(&case.at("tree"), &out);
    }
}

#[test]
fn a_user_gets_what_a_user_may_have() {
    let case = Case::new();
    let dir = case.surroundings("in", NOBODY);
    let out = dir.join("out");
    let user = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let (status, report) = case.extract(&user, &out);
    assert_eq!(status, Some(2));
    // The device. The owners of the root and of what is below but for the link: 15. The
    // set-id bits of three, a capability, an attribute that is trusted.
    let names = snapshot(&case.at("tree")).len() as u64;
    assert_eq!(report["skipped"], 1 + (names - 2) + 3 + 2);
    assert_eq!(report["names"], names - 2);
    assert_all_there(&case, &out, &["null"]);
    for (name, wanted) in [
        ("open", 0o750),
        ("suid", 0o750),
        ("users-suid", 0o750),
        ("shared", 0o750),
        ("locked", 0o550),
        ("closed", 0),
        ("closed/sub", 0),
        ("closed/file", 0o400),
        ("fifo", 0o640),
    ] {
        assert_eq!(mode(&out.join(name)), wanted, "{name}");
    }
    for name in snapshot(&out).into_keys() {
        // One has a list of its own.
        let is_own = name == Path::new("open");
        assert_eq!(has_acl(&out.join(&name)), is_own, "{}", name.display());
        let meta = fs::symlink_metadata(out.join(&name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY));
    }
}

#[test]
fn root_without_a_capability_leaves_out_what_takes_it() {
    let case = Case::new();
    for (number, (without, device)) in [
        ("-chown", true),
        ("-fowner", true),
        ("-fsetid", true),
        ("-dac_override,-dac_read_search", true),
        ("-mknod", false),
        ("-setfcap", true),
        ("-sys_admin", true),
        ("-all", false),
    ]
    .into_iter()
    .enumerate()
    {
        let out = case.at(&format!("out{number}"));
        let set = format!("--bounding-set={without}");
        let (status, report) = case.extract(&["setpriv", &set], &out);
        let none: &[&str] = if device { &[] } else { &["null"] };
        assert_all_there(&case, &out, none);
        let skipped = report["skipped"].as_u64().unwrap();
        assert_eq!(status, Some(if skipped > 0 { 2 } else { 0 }), "{without}");
        let (tree, found) = (snapshot(&case.at("tree")), snapshot(&out));
        let same = tree
            .iter()
            .all(|(name, facts)| found.get(name) == Some(facts));
        assert_eq!(
            skipped == 0,
            same,
            "{without}: what is counted, and what differs"
        );
        // Nobody gets rights of somebody else.
        let suid = fs::metadata(out.join("users-suid")).unwrap();
        assert!(suid.mode() & 0o6000 == 0 || suid.uid() == 1000, "{without}");
    }
}

#[test]
fn root_of_a_user_namespace_has_its_own_users_only() {
    let case = Case::new();
    let namespace = ["unshare", "--user", "--map-root-user"];
    let out = case.at("out");
    let (status, report) = case.extract(&namespace, &out);
    assert_eq!(status, Some(2));
    assert!(report["skipped"].as_u64().unwrap() >= 6, "{report}");
    assert_all_there(&case, &out, &["null"]);
    assert_eq!(mode(&out.join("suid")), 0o6755, "of its own root");
    assert_eq!(
        mode(&out.join("users-suid")),
        0o755,
        "of a user that it has not"
    );
}

fn half_made(out: &Path) -> usize {
    fs::read_dir(out).into_iter().flatten().count()
}

#[test]
fn what_ends_early_leaves_nothing_or_what_the_next_run_removes() {
    let case = Case::new();
    fs::write(case.at("tree/open"), noise(200 << 20, 1)).unwrap();
    let mut plain = options();
    plain.compression = Default::default();
    build_into(&case.at("tree"), &case.at("layout"), "it", &plain);
    let start = |out: &Path| {
        let mut command = Command::new(case.at("puzzlefs"));
        command
            .arg("extract")
            .arg(format!("{}:it", case.at("layout").display()));
        let mut child = command.arg(out).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while half_made(out) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    };
    for is_there in [false, true] {
        let out = case.at(&format!("out{is_there}"));
        if is_there {
            fs::create_dir(&out).unwrap();
        }
        let child = start(&out);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let done = child.wait_with_output().unwrap();
        assert_eq!(
            (done.status.signal(), &done.stderr[..]),
            (Some(15), &b""[..])
        );
        assert_eq!((out.exists(), half_made(&out)), (is_there, 0));

        let mut child = start(&out);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        assert_eq!(half_made(&out), 1);
        assert_eq!(case.extract(&[], &out).0, Some(0));
        crate::common::assert_same_tree(&case.at("tree"), &out);
    }
}
