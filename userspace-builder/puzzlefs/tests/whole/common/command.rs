// SPDX-License-Identifier: Apache-2.0
//! The command itself, which may not take forever.

use std::path::Path;
use std::process::{Command, Output};

/// The command's file.
pub const PUZZLEFS: &str = env!("CARGO_BIN_EXE_puzzlefs");

/// Runs it; one that hangs is killed, and then has no success.
pub fn puzzlefs(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["120", PUZZLEFS]).args(args).output().unwrap()
}

/// Runs a script with it as `$PUZZLEFS`, in a mount namespace of its own, as root of that. There
/// `fails` runs a command that must fail.
pub fn unshared(script: &str, dir: &Path) -> Output {
    let fails = "fails() { if \"$@\"; then exit 9; fi; }";
    let script = &format!("{fails}\n{script}");
    let mut command = Command::new("timeout");
    // Whoever is root needs no user namespace, which nobody gets in a chroot.
    let namespaces = match rustix::process::geteuid().is_root() {
        true => "-m",
        false => "-rm",
    };
    command.args(["120", "unshare", namespaces, "sh", "-euc", script]);
    command.env("PUZZLEFS", PUZZLEFS).current_dir(dir);
    command.output().unwrap()
}

/// What it printed, if it succeeded.
pub fn success(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said was wrong. It ended by itself.
pub fn failure(output: &Output) -> String {
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| (1..124).contains(&code)),
        "{output:?}"
    );
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(all).unwrap()
}
