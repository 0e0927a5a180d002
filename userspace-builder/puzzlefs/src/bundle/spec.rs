// SPDX-License-Identifier: Apache-2.0
//! The config.json of a bundle (OCI runtime-spec): what podman gives a container that was not told otherwise.
//!
//! Nothing that an image says is taken over as it is but what its program is given. Its labels do not become
//! annotations: crun, for one, takes orders from those.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::runtime::{
    get_default_mounts, Capability, LinuxBuilder, LinuxCapabilitiesBuilder,
    LinuxDeviceCgroupBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder,
    Mount, MountBuilder, ProcessBuilder, RootBuilder, SpecBuilder, UserBuilder,
};
use serde_json::Value;

use super::options::{Bind, Network, Options, IMAGE, ROOTFS};
use super::program::Program;
use super::seccomp;

/// Of all capabilities what podman leaves to a container's root.
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];
/// What says something of the machine, and what changes it, as podman has it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];
const READ_ONLY: [&str; 6] = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// How names are found, by this machine's network.
const RESOLVING: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];
/// The version of the runtime-spec that this keeps to.
const VERSION: &str = "1.0.2";

/// The text of config.json. `image` is what the bundle was made of, `binds` are its volumes.
pub fn text(program: &Program, binds: &[Bind], image: &str, options: &Options) -> Result<Vec<u8>> {
    let process = ProcessBuilder::default()
        .terminal(options.terminal)
        .user(
            UserBuilder::default()
                .uid(program.user.uid)
                .gid(program.user.gid)
                .additional_gids(program.user.groups.clone())
                .build()?,
        )
        .args(program.args.clone())
        .env(program.env.clone())
        .cwd(PathBuf::from(&program.cwd))
        .capabilities(capabilities(program.user.uid == 0)?)
        .no_new_privileges(false);
    // What the default of the crate has is not ours.
    let mut process = process.build()?;
    process.set_rlimits(None);
    let nothing = LinuxDeviceCgroupBuilder::default()
        .allow(false)
        .access("rwm");
    let resources = LinuxResourcesBuilder::default().devices(vec![nothing.build()?]);
    let names = CAPABILITIES.map(serde_json::to_value);
    let names = names.into_iter().collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    let texts = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>()
    };
    let linux = LinuxBuilder::default()
        .resources(resources.build()?)
        .namespaces(namespaces(options.network)?)
        .masked_paths(texts(&MASKED))
        .readonly_paths(texts(&READ_ONLY));
    let linux = match seccomp::of_machine(&names)? {
        Some(filter) => linux.seccomp(filter),
        None => linux,
    };
    let mut annotations = HashMap::from([(IMAGE.to_owned(), image.to_owned())]);
    if let Some(signal) = &program.stop_signal {
        annotations.insert("org.opencontainers.image.stopSignal".into(), signal.clone());
    }
    let root = RootBuilder::default()
        .path(ROOTFS)
        .readonly(options.read_only);
    let spec = SpecBuilder::default()
        .version(VERSION)
        .root(root.build()?)
        .process(process)
        .hostname(options.hostname.clone())
        .mounts(mounts(binds, options)?)
        .annotations(annotations)
        .linux(linux.build()?);
    let mut value = serde_json::to_value(spec.build()?)?;
    in_order(&mut value);
    Ok(serde_json::to_vec_pretty(&value)?)
}

/// All of them for root; another user gets them by programs that are set-uid only.
fn capabilities(is_root: bool) -> Result<oci_spec::runtime::LinuxCapabilities> {
    let all = || {
        CAPABILITIES
            .into_iter()
            .collect::<std::collections::HashSet<_>>()
    };
    let own = || {
        all()
            .into_iter()
            .filter(|_| is_root)
            .collect::<std::collections::HashSet<_>>()
    };
    let none = std::collections::HashSet::new;
    let set = LinuxCapabilitiesBuilder::default()
        .bounding(all())
        .effective(own())
        .permitted(own());
    Ok(set.inheritable(none()).ambient(none()).build()?)
}

/// The same bundle twice is the same text: sets have no order of their own.
fn in_order(spec: &mut Value) {
    if let Some(Value::Object(annotations)) = spec.get_mut("annotations") {
        annotations.sort_keys();
    }
    let Some(Value::Object(sets)) = spec.pointer_mut("/process/capabilities") else {
        return;
    };
    for set in sets.values_mut() {
        if let Value::Array(names) = set {
            names.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
}

fn namespaces(network: Network) -> Result<Vec<oci_spec::runtime::LinuxNamespace>> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
    let mut kinds = vec![Pid, Ipc, Uts, Mount, Cgroup];
    kinds.extend((network == Network::None).then_some(Net));
    let namespaces = kinds
        .into_iter()
        .map(|kind| Ok(LinuxNamespaceBuilder::default().typ(kind).build()?));
    namespaces.collect()
}

fn mounts(binds: &[Bind], options: &Options) -> Result<Vec<Mount>> {
    let mut mounts = get_default_mounts();
    for mount in &mut mounts {
        let more: &[&str] = match mount.destination().to_str() {
            Some("/proc") => &["nosuid", "noexec", "nodev"],
            _ => &[],
        };
        let mut all = mount.options().clone().unwrap_or_default();
        all.extend(more.iter().map(|option| (*option).to_owned()));
        mount.set_options(Some(all));
    }
    if options.network == Network::Host {
        for path in RESOLVING.iter().filter(|path| Path::new(path).exists()) {
            mounts.push(bind(path, Path::new(path), true)?);
        }
    }
    for volume in binds.iter().chain(&options.binds) {
        mounts.push(bind(&volume.target, &volume.source, volume.read_only)?);
    }
    Ok(mounts)
}

fn bind(target: &str, source: &Path, read_only: bool) -> Result<Mount> {
    let mode = if read_only { "ro" } else { "rw" };
    let options = ["rbind", "rprivate", "nodev", mode].map(str::to_owned);
    let mount = MountBuilder::default()
        .destination(target)
        .typ("bind")
        .source(source);
    Ok(mount.options(options).build()?)
}
