// SPDX-License-Identifier: Apache-2.0
//! Who asks: the one question that the kernel leaves to the filesystem.

use std::fs;
use std::path::PathBuf;

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
    }
}
