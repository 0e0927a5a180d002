// SPDX-License-Identifier: Apache-2.0
//! Which system calls a container may do: podman's profile, where this machine has it (containers-common), for
//! the capabilities and the processor of here.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{json, Map, Value};

use crate::base::text;

/// Where podman looks for it, the first one first.
const PLACES: [&str; 2] = [
    "/etc/containers/seccomp.json",
    "/usr/share/containers/seccomp.json",
];
/// Bytes of a profile, at most.
const MAX_PROFILE: u64 = 4 << 20;

/// The filter for a process that can have `capabilities`, by this machine's profile; none if it has none.
///
/// # Errors
///
/// A profile that is none.
pub fn of_machine(capabilities: &[&str]) -> Result<Option<LinuxSeccomp>> {
    for place in PLACES.map(Path::new) {
        let file = match File::open(place) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.with_context(|| text::path(place))?,
        };
        let mut profile = Vec::new();
        file.take(MAX_PROFILE).read_to_end(&mut profile)?;
        let filter = serde_json::from_slice(&profile).map_err(anyhow::Error::from);
        let filter = filter.and_then(|profile| filter_of(&profile, processor(), capabilities));
        return filter.map(Some).with_context(|| text::path(place));
    }
    Ok(None)
}

/// What profiles call this machine's processor.
fn processor() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn filter_of(profile: &Value, processor: &str, capabilities: &[&str]) -> Result<LinuxSeccomp> {
    let mut filter = Map::new();
    for key in ["defaultAction", "defaultErrnoRet"] {
        copy(profile, key, &mut filter);
    }
    let maps = list(&profile["archMap"]);
    let own = maps.filter(|map| is_of(map, processor));
    let names = own.flat_map(|map| {
        let main = std::iter::once(&map["architecture"]);
        main.chain(list(&map["subArchitectures"]))
            .cloned()
            .collect::<Vec<_>>()
    });
    let names: Vec<Value> = names.collect();
    if !names.is_empty() {
        filter.insert("architectures".into(), names.into());
    }
    let calls = list(&profile["syscalls"]).filter(|call| concerns(call, processor, capabilities));
    let calls = calls.map(|call| {
        let mut rule = Map::new();
        for key in ["names", "action", "errnoRet"] {
            copy(call, key, &mut rule);
        }
        if list(&call["args"]).next().is_some() {
            copy(call, "args", &mut rule);
        }
        Value::Object(rule)
    });
    filter.insert("syscalls".into(), calls.collect());
    serde_json::from_value(json!(filter)).context("a profile of system calls")
}

/// Copies what is there.
fn copy(from: &Value, key: &str, to: &mut Map<String, Value>) {
    if let Some(value) = from.get(key).filter(|value| !value.is_null()) {
        to.insert(key.into(), value.clone());
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether a map is that of a processor.
fn is_of(map: &Value, processor: &str) -> bool {
    let name = match processor {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        "ppc64le" => "SCMP_ARCH_PPC64LE",
        "s390x" => "SCMP_ARCH_S390X",
        "riscv64" => "SCMP_ARCH_RISCV64",
        _ => return false,
    };
    map["architecture"] == name
}

/// Whether a rule is one for this processor and these capabilities: with all that it includes, and none of what it
/// excludes.
fn concerns(rule: &Value, processor: &str, capabilities: &[&str]) -> bool {
    let has = |name: &Value| {
        name.as_str()
            .is_some_and(|name| capabilities.contains(&name))
    };
    let (with, without) = (&rule["includes"], &rule["excludes"]);
    let for_others =
        list(&with["arches"]).next().is_some() && !list(&with["arches"]).any(|it| it == processor);
    !for_others
        && !list(&without["arches"]).any(|it| it == processor)
        && list(&with["caps"]).all(has)
        && !list(&without["caps"]).any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_processor_and_capabilities() {
        let rule = |name: &str, includes: Value, excludes: Value| {
            json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "",
                "includes": includes, "excludes": excludes})
        };
        let with_args = json!({"names": ["args"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}], "includes": {}, "excludes": {}});
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64"}],
            "syscalls": [
                rule("all", json!({}), json!({})),
                rule("arm", json!({"arches": ["arm64"]}), json!({})),
                rule("amd", json!({"arches": ["amd64", "x32"]}), json!({})),
                rule("not amd", json!({}), json!({"arches": ["amd64"]})),
                rule("chroot", json!({"caps": ["CAP_SYS_CHROOT"]}), json!({})),
                rule("no chroot", json!({}), json!({"caps": ["CAP_SYS_CHROOT", "CAP_X"]})),
                rule("admin", json!({"caps": ["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"]}), json!({})),
                rule("no admin", json!({}), json!({"caps": ["CAP_SYS_ADMIN"]})),
                with_args,
            ],
        });
        let filter = filter_of(&profile, "amd64", &["CAP_SYS_CHROOT"]).unwrap();
        let filter = serde_json::to_value(&filter).unwrap();
        let names: Vec<&str> = list(&filter["syscalls"])
            .filter_map(|rule| rule["names"][0].as_str())
            .collect();
        assert_eq!(names, ["all", "amd", "chroot", "no admin", "args"]);
        assert_eq!(
            filter["architectures"],
            json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
        );
        assert_eq!(
            (&filter["defaultAction"], &filter["defaultErrnoRet"]),
            (&json!("SCMP_ACT_ERRNO"), &json!(38))
        );
        assert_eq!(filter["syscalls"][4]["args"][0]["value"], 8);
        assert_eq!(filter["syscalls"][0].get("args"), None);
        assert!(filter_of(&json!({"defaultAction": "SCMP_ACT_NONSENSE"}), "amd64", &[]).is_err());
        assert!(filter_of(&json!([]), "amd64", &[]).is_err());
    }
}
