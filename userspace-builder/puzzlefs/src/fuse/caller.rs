// SPDX-License-Identifier: Apache-2.0
//! Who asks: what the kernel leaves to the filesystem to know of that.

use std::fs;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{test_kill_process, Pid};

/// The bit of `CAP_SYS_ADMIN` (linux/capability.h).
const SYS_ADMIN: u32 = 21;

/// Callers who may see the names of extended attributes of `trusted.`: those with `CAP_SYS_ADMIN` in the initial
/// user namespace.
pub(super) struct Trusted {
    /// That namespace, if this process is in it. Nobody else's is known to be.
    initial: Option<PathBuf>,
}

impl Trusted {
    /// As this process sees it.
    pub(super) fn new() -> Self {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let is_initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
        let namespace = fs::read_link("/proc/self/ns/user");
        Trusted {
            initial: namespace.ok().filter(|_| is_initial),
        }
    }

    /// Whether the process `pid`, which waits for the answer, is one. The kernel does not say for whom it asks
    /// where mounts may be idmapped.
    pub(super) fn includes(&self, pid: u32) -> bool {
        let Some(initial) = &self.initial else {
            return false;
        };
        let namespace = fs::read_link(format!("/proc/{pid}/ns/user"));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
        let is_capable = capabilities.is_some_and(|all| (all >> SYS_ADMIN) & 1 == 1);
        is_capable && namespace.is_ok_and(|namespace| namespace == *initial)
    }
}

/// Whether the process (or thread) `pid`, which waits for an answer, was killed, or is not there any more.
///
/// The protocol has a request of its own for that, which the crate fuser refuses; a process that was killed is not gone
/// before it has its answer, and the signal is pending.
pub(super) fn is_gone(pid: u32) -> bool {
    /// SIGKILL in the masks of proc_pid_status(5).
    const KILL: u64 = 1 << (9 - 1);
    // A request that nobody in particular made, or one whom this process cannot see.
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(number) = number else {
        return false;
    };
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        // There may be no /proc, or none that shows others.
        return test_kill_process(number) == Err(Errno::SRCH);
    };
    let masks = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) & KILL != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_capable_is_seen() {
        let trusted = Trusted::new();
        let is_root = rustix::process::geteuid().is_root();
        let is_known = trusted.initial.is_some();
        assert_eq!(trusted.includes(std::process::id()), is_root && is_known);
        assert!(!trusted.includes(0));
        let nobody = Trusted { initial: None };
        assert!(!nobody.includes(std::process::id()));
        assert!(!is_gone(std::process::id()) && !is_gone(0));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_gone(child.id()));
    }
}
