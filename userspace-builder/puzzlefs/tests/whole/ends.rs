// SPDX-License-Identifier: Apache-2.0
//! How the command ends: with outputs that fail, with signals, and the exit status of failures.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{success, unshared};
use crate::common::{faults, noise, scratch};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGPIPE: i32 = 13;
const SIGTERM: i32 = 15;

fn puzzlefs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_puzzlefs"))
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let mut reader = Command::new("true");
    let mut reader = reader.stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    pipe.into()
}

/// A layout with the image `tag` of a directory that has a file.
fn image(dir: &Path) -> String {
    fs::create_dir(dir.join("root")).unwrap();
    fs::write(dir.join("root/file"), noise(300_000, 1)).unwrap();
    let image = format!("{}:tag", dir.join("layout").display());
    let mut build = puzzlefs();
    build.args(["build", "--quiet"]).arg(dir.join("root"));
    let built = build.arg(&image).output().unwrap();
    assert_eq!(
        (built.status.code(), &built.stdout[..]),
        (Some(0), &b""[..])
    );
    image
}

#[test]
fn errors_of_stderr_are_nobodys() {
    let dir = scratch();
    let image = image(dir.path());
    let root = dir.path().join("root");
    for stderr in [|| Stdio::from(full()), closed_pipe] {
        // Lines of progress are due all the time.
        let mut build = puzzlefs();
        build.env("PUZZLEFS_PROGRESS_SECONDS", "1").arg("build");
        let status = build.arg(&root).arg(&image).stdout(Stdio::null());
        assert_eq!(status.stderr(stderr()).status().unwrap().code(), Some(0));
        let mut inspect = puzzlefs();
        let failed = inspect.args(["inspect", &format!("{image}-other")]);
        let failed = failed.stderr(stderr()).status().unwrap();
        assert_eq!(failed.code(), Some(4));
        // The parser of arguments has its own way to say what is wrong.
        let mut wrong = puzzlefs();
        let status = wrong.arg("--what").stderr(stderr()).status().unwrap();
        assert_eq!(status.code(), Some(64));
    }
}

#[test]
fn errors_of_stdout_are_errors() {
    let dir = scratch();
    let image = image(dir.path());
    let root = dir.path().join("root");
    let root = root.to_str().unwrap();
    for args in [
        &["build", root, &image][..],
        &["inspect", &image],
        &["ls", &image],
        &["verify", &image],
        &["completions", "bash"],
        &["--help"],
        &["build", "--help"],
        &["--version"],
    ] {
        let to = |stdout: Stdio| puzzlefs().args(args).stdout(stdout).output().unwrap();
        let output = to(full().into());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains("standard output: "), "{args:?}: {text}");
        // As of any program whose reader has gone: no word, and SIGPIPE.
        let output = to(closed_pipe());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGPIPE), "{args:?}: {text}");
        assert_eq!(text, "", "{args:?}");
    }
}

#[test]
fn the_status_tells_failures_apart() {
    let dir = scratch();
    let image = image(dir.path());
    let (layout, _) = image.rsplit_once(':').unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ends = |args: &[&str], status: i32| {
        let Output {
            status: found,
            stderr,
            ..
        } = puzzlefs().args(args).output().unwrap();
        let text = String::from_utf8_lossy(&stderr);
        assert_eq!(found.code(), Some(status), "{args:?}: {text}");
    };
    ends(&["inspect", &image], 0);
    ends(&["verify", &image], 0);
    for args in [
        &["inspect", "/nowhere:tag"][..],
        &["inspect", &format!("{layout}:other")],
        &["verify", &format!("{layout}:other")],
        &["rm", &format!("{layout}:other")],
        &["ls", &image, "/file/below"],
        &["ls", &image, "/other"],
        &["build", "/nowhere", &image],
        &["build", "--base", "other", &at("root"), &image],
    ] {
        ends(args, 4);
    }
    ends(&["extract", &image, layout], 5);
    ends(&["build", &at("root"), &format!("{}:x", at("root/in"))], 5);
    ends(&["build", &at("root"), "/proc/layout:x"], 4);
    for args in [
        &[][..],
        &["inspect"],
        &["inspect", "no-tag"],
        &["what"],
        &["build", "--compression", "zstd:23", &at("root"), &image],
    ] {
        ends(args, 64);
    }
    // A byte of a chunk is another one; then the manifest is gone.
    for entry in fs::read_dir(format!("{layout}/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.len() > 200_000 {
            bytes[1000] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    ends(&["inspect", &image], 0);
    ends(&["verify", &image], 3);
    ends(&["extract", &image, &at("out")], 3);
    assert!(!dir.path().join("out").exists());
    fs::remove_dir_all(format!("{layout}/blobs/sha256")).unwrap();
    fs::create_dir(format!("{layout}/blobs/sha256")).unwrap();
    ends(&["inspect", &image], 3);
    fs::write(format!("{layout}/index.json"), "{").unwrap();
    ends(&["inspect", &image], 3);
}

/// The names in a layout that are not part of it.
fn left(layout: &Path) -> Vec<String> {
    let entries = fs::read_dir(layout).into_iter().flatten();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".puzzlefs")).collect()
}

fn wait_for(child: &mut Child, what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(100), "nothing comes");
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A first build that has begun to write, and its layout.
fn building(dir: &Path) -> (Child, std::path::PathBuf) {
    let (root, layout) = (dir.join("root"), dir.join("layout"));
    fs::create_dir(&root).unwrap();
    let text: Vec<u8> = noise(40 << 20, 1).iter().map(|b| b & 15).collect();
    fs::write(root.join("big"), text).unwrap();
    // Whoever runs the tests may ignore signals, as a shell has its background commands do.
    let mut build = Command::new("env");
    build.arg("--default-signal=INT,TERM,HUP");
    build.arg(env!("CARGO_BIN_EXE_puzzlefs"));
    build.args(["build", "--compression", "zstd:19", "--pack-size", "100000"]);
    build.arg(root).arg(format!("{}:tag", layout.display()));
    let piped = build.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    wait_for(&mut child, || {
        left(&layout).first().is_some_and(|name| {
            fs::read_dir(layout.join(name)).is_ok_and(|files| files.count() > 2)
        })
    });
    (child, layout)
}

fn kill(child: &Child, signal: i32) {
    let pid = rustix::process::Pid::from_child(child);
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn signals_leave_nothing_half_made() {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let dir = scratch();
        let (mut child, layout) = building(dir.path());
        kill(&child, signal);
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        // A shell shows it as 130 and the like.
        assert_eq!(child.wait().unwrap().signal(), Some(signal), "{said}");
        assert_eq!(said, "");
        assert_eq!(left(&layout), [""; 0]);
        assert_eq!(
            fs::read_dir(layout.join("blobs/sha256")).unwrap().count(),
            0
        );
    }
}

/// A script that runs the command in a namespace with a signal at its first call of `call`, after
/// which nothing gets a name for a second.
fn interrupted(dir: &Path, prepare: &str, call: &str, args: &str) {
    let script = format!(
        "{prepare}
        strace -f -o strace -e trace={call},renameat,renameat2 \
        -e inject={call}:signal=TERM:when=1 -e inject=renameat,renameat2:delay_enter=1000000 \
        \"$PUZZLEFS\" {args} >report || status=$?
        test \"$status\" = 143
        grep -q SIGTERM strace
        find layout/ elsewhere/ -name '.puzzlefs*' | {{ ! grep .; }}"
    );
    success(&unshared(&script, dir));
}

/// Whatever is made relative to a directory is removed there: a new index.json, and blobs that lie
/// on another filesystem.
#[test]
fn signals_leave_nothing_where_only_a_descriptor_leads() {
    let dir = scratch();
    image(dir.path());
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    interrupted(dir.path(), "", "fsync", "rm layout:tag");
    assert_eq!(faults(&dir.path().join("layout"), "tag"), [""; 0]);
    let elsewhere = "mount -t tmpfs none elsewhere
        mv layout/blobs elsewhere/blobs
        ln -s ../elsewhere/blobs layout/blobs
        echo more >root/more";
    interrupted(
        dir.path(),
        elsewhere,
        "syncfs",
        "build --no-cache root layout:tag",
    );
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let dir = scratch();
    let image = image(dir.path());
    let mut command = Command::new("sh");
    let script = "trap '' INT HUP; exec \"$0\" ls \"$1\" -R";
    command.args(["-c", script, env!("CARGO_BIN_EXE_puzzlefs"), &image]);
    assert!(command.output().unwrap().status.success());
    let (root, layout) = (dir.path().join("root"), dir.path().join("other"));
    let text: Vec<u8> = noise(8 << 20, 1).iter().map(|b| b & 15).collect();
    fs::write(root.join("big"), text).unwrap();
    let script = "trap '' INT HUP; exec \"$0\" build --compression zstd:19 \"$1\" \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_puzzlefs")]);
    let to = format!("{}:tag", layout.display());
    let mut child = command
        .arg(&root)
        .arg(&to)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&mut child, || !left(&layout).is_empty());
    kill(&child, SIGINT);
    kill(&child, SIGHUP);
    assert!(child.wait().unwrap().success());
    assert_eq!(faults(&layout, "tag"), [""; 0]);
}

#[test]
fn gc_works_after_an_interrupted_first_build() {
    let dir = scratch();
    let (mut child, layout) = building(dir.path());
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert_eq!(left(&layout).len(), 1);
    for is_old in [false, true] {
        if is_old {
            // As earlier versions left it.
            fs::remove_file(layout.join("index.json")).unwrap();
        }
        let done = puzzlefs().arg("gc").arg(&layout).output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{text}");
        assert_eq!(left(&layout), [""; 0]);
    }
    // Blobs of which nothing says that they are not in use stay.
    fs::write(layout.join(format!("blobs/sha256/{:064}", 1)), "1").unwrap();
    let done = puzzlefs().arg("gc").arg(&layout).output().unwrap();
    assert!(!done.status.success());
    assert_eq!(
        fs::read_dir(layout.join("blobs/sha256")).unwrap().count(),
        1
    );
}

#[test]
fn progress_without_a_terminal_is_lines() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let text: Vec<u8> = noise(8 << 20, 1).iter().map(|b| b & 15).collect();
    fs::write(root.join("big"), text).unwrap();
    let lines = |seconds: &str, more: &[&str]| -> Vec<String> {
        let to = format!(
            "{}:tag",
            dir.path()
                .join(format!("{seconds}{}", more.len()))
                .display()
        );
        let mut build = puzzlefs();
        build.args(["build", "--compression", "zstd:19"]).args(more);
        build.env("PUZZLEFS_PROGRESS_SECONDS", seconds);
        let piped = build.arg(&root).arg(to).stdout(Stdio::null());
        let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let lines = lines.map(|line| line.unwrap()).collect();
        assert!(child.wait().unwrap().success());
        lines
    };
    let found = lines("1", &[]);
    assert!(!found.is_empty());
    for line in found {
        let is_progress = line.starts_with("puzzlefs: ") && line.contains("iB of ");
        assert!(is_progress && line.ends_with("%)"), "{line:?}");
    }
    assert_eq!(lines("0", &[]), [""; 0]);
    assert_eq!(lines("1", &["--quiet"]), [""; 0]);
}
