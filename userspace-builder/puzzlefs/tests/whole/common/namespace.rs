// SPDX-License-Identifier: Apache-2.0
//! Shell scripts that mount.

use std::process::Command;

use super::scratch;

/// Runs a shell script as root of a mount namespace of its own: `$P` is the command, `$D` an empty
/// directory. Returns what it prints.
pub fn in_namespace(script: &str) -> String {
    let dir = scratch();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", script])
        .env("P", env!("CARGO_BIN_EXE_puzzlefs"))
        .env("D", dir.path())
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{errors}");
    out
}
