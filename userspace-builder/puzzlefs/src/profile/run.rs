// SPDX-License-Identifier: Apache-2.0
//! A program that reads an image, which is mounted for it alone: so nothing of it is in memory before.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use puzzlefs_fanotify::Group;
use rustix::fs::CWD;
use rustix::mount::{
    mount, mount_change, move_mount, open_tree, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};
use rustix::process::{chdir, chroot, pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};

use crate::base::{cleanup, text};
use crate::mount::{directory, Request, Value};

/// Where the program runs.
pub enum Scene<'a> {
    /// In the image: below this directory, which is empty.
    Inside(&'a Path),
    /// Where the caller is, with the image at this mount point.
    At(&'a Path),
}

/// What of this machine a program in an image finds there.
const SHARED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Runs `command` in this thread's own mount namespace, in which `image` is mounted, until it ends. `opens` is told of
/// the files that it opens. What it writes to standard output goes to standard error, if it is to be `quiet`.
pub fn run(
    image: &Request,
    scene: &Scene<'_>,
    command: &[OsString],
    quiet: bool,
    opens: &Group,
) -> Result<ExitStatus> {
    // No descriptor is concerned, which is why another name of it is called unsafe.
    #[allow(deprecated, reason = "only the other flags need care")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).context("a mount namespace")?;
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", alone).context("a mount namespace")?;
    match scene {
        Scene::At(target) => {
            image.mount(target)?;
            opens.watch_opens(directory(target)?)?;
        }
        Scene::Inside(dir) => enter(image, dir, opens)?,
    }
    let (name, arguments) = command.split_first().context("no command")?;
    let mut process = Command::new(name);
    process.args(arguments);
    if quiet {
        process.stdout(Stdio::from(rustix::io::dup(rustix::stdio::stderr())?));
    }
    let context = || text::path(Path::new(name));
    let mut process = process.spawn().with_context(context)?;
    // A service is ended by a signal, and what it has read until then counts.
    let program =
        pidfd_open(Pid::from_child(&process), PidfdFlags::empty()).with_context(context)?;
    let _passed = cleanup::pass_to(move |signal| {
        // What comes from a terminal, the program has got as well.
        let is_known = signal == Signal::INT.as_raw() && io::stdin().is_terminal();
        if let Some(signal) = Signal::from_named_raw(signal).filter(|_| !is_known) {
            // One that has ended has no need of it.
            let _ = pidfd_send_signal(&program, signal);
        }
    });
    process.wait().with_context(context)
}

/// Mounts the image below `dir`, with an overlayfs above it whose changes are in memory, and makes that the root.
fn enter(image: &Request, dir: &Path, opens: &Group) -> Result<()> {
    let context = || format!("mounting at {}", dir.display());
    mount("tmpfs", dir, "tmpfs", MountFlags::empty(), c"mode=0700").with_context(context)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| dir.join(name));
    for dir in [&upper, &work, &root] {
        fs::create_dir(dir).with_context(context)?;
    }
    let mut overlay = Request::new("overlay", &image.source);
    overlay.options = vec![
        ("lowerdir+".into(), Value::File(image.detached()?)),
        ("upperdir".into(), Value::File(directory(&upper)?)),
        ("workdir".into(), Value::File(directory(&work)?)),
    ];
    overlay.mount(&root)?;
    opens.watch_opens(directory(&root)?)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let shared = SHARED.map(|path| Some((path, open_tree(CWD, path, flags).ok()?)));
    let shared: Vec<(&str, OwnedFd)> = shared.into_iter().flatten().collect();
    chroot(&root).context("chroot")?;
    chdir("/").context("chdir")?;
    // From here on links of the image lead nowhere but into it.
    for (path, tree) in shared {
        // It is there as a rule, and if it cannot be there, the program says what it misses.
        let _ = fs::create_dir(path);
        let _ = move_mount(
            &tree,
            "",
            CWD,
            path,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        );
    }
    Ok(())
}
