// SPDX-License-Identifier: Apache-2.0
//! A root filesystem for this process, in namespaces of its own: an image below, an overlayfs above it for what is changed,
//! and in that all that the runtime has mounted into the container. No capability of the container is needed for that, as
//! who makes a user namespace has all of them there; at the end those are taken away that the container had not.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{bail, Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    mount, mount_change, move_mount, open_tree, unmount, MountFlags, MountPropagationFlags,
    MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::pipe::PipeFlags;
use rustix::process::pivot_root;
use rustix::thread::{
    capability_is_in_bounding_set, remove_capability_from_bounding_set, CapabilitySet,
};

use super::mounts;
use super::places::{CHANGES, DIR, ROOT};
use crate::base::error::Error;
use crate::base::text;
use crate::fuse;

/// Links that may lead on from one place to another one: as many as the kernel follows.
const TRIES: usize = 40;

/// What the container may do at most: it stays so for what runs in the end.
pub(super) struct Bounds(Vec<CapabilitySet>);

impl Bounds {
    /// Those of this process.
    pub(super) fn now() -> Self {
        let all = CapabilitySet::all().iter();
        // One that this kernel does not know nobody has.
        Bounds(
            all.filter(|one| capability_is_in_bounding_set(*one).unwrap_or(false))
                .collect(),
        )
    }

    /// Takes away what is not among them.
    pub(super) fn restore(&self) -> Result<()> {
        for one in Self::now().0.iter().filter(|one| !self.0.contains(one)) {
            remove_capability_from_bounding_set(*one).context("giving up a capability")?;
        }
        Ok(())
    }
}

/// What came of a trial.
pub(super) enum Tried {
    /// It can be done.
    Can,
    /// It cannot: why.
    Cannot(String),
    /// This process was the one that has tried, and has nothing more to do.
    Ended,
}

/// Whether a process of the container can do all that: in one that is a copy of this one, as there is no way back.
pub(super) fn try_out() -> Result<Tried> {
    if !Path::new("/dev/fuse").exists() {
        return Ok(Tried::Cannot("there is no /dev/fuse".into()));
    }
    // A root that may not be written to has it already.
    let _ = fs::create_dir(ROOT);
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (mut ours, mut theirs) = (fs::File::from(ours), fs::File::from(theirs));
    let Some(child) = puzzlefs_unnoticed::fork()? else {
        drop(ours);
        let tried = alone().and_then(|()| {
            fuse::connected("try")?;
            tmpfs(Path::new(ROOT))
        });
        let text = tried.err().map(|error| format!("{error:#}"));
        // Whoever waits takes silence for success, and hears of failures later then.
        let _ = theirs.write_all(text.unwrap_or_default().as_bytes());
        return Ok(Tried::Ended);
    };
    drop(theirs);
    let mut why = String::new();
    ours.read_to_string(&mut why)?;
    child.wait()?;
    Ok(match why.is_empty() {
        true => Tried::Can,
        false => Tried::Cannot(why),
    })
}

/// Namespaces in which only root is known, for a trial.
fn alone() -> Result<()> {
    puzzlefs_unnoticed::unshare().context("a user namespace")?;
    for (name, text) in [
        ("setgroups", "deny"),
        ("uid_map", "0 0 1"),
        ("gid_map", "0 0 1"),
    ] {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text).context(path)?;
    }
    private()
}

/// Keeps what is mounted from now on to this process.
pub(super) fn private() -> Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).context("mounts of its own")
}

fn tmpfs(at: &Path) -> Result<()> {
    let flags = MountFlags::NODEV;
    mount("none", at, "tmpfs", flags, c"mode=755").with_context(|| text::path(at))
}

/// Makes the image that is mounted as `image`, and nowhere yet, the root of this process, with all mounts of the container;
/// `hidden` are directories that stay empty.
pub(super) fn enter(image: &OwnedFd, hidden: &[PathBuf]) -> Result<()> {
    let points = mounts::points()?;
    let is_read_only = mounts::is_read_only()?;
    let work = Path::new(ROOT);
    tmpfs(work)?;
    let (lower, new) = (work.join("image"), work.join("new"));
    for dir in [&lower, &new] {
        fs::create_dir(dir).with_context(|| text::path(dir))?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(image, "", CWD, &lower, flags).context("mounting the image")?;
    // In a volume, if there is one for that; else in memory.
    let is_volume = points
        .iter()
        .any(|point| Path::new("/").join(point) == Path::new(CHANGES));
    overlay(
        &lower,
        if is_volume { Path::new(CHANGES) } else { work },
        &new,
    )?;
    let root = rustix::fs::open(
        &new,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    for point in mounts::outermost(&points) {
        // What is the program's is not the application's.
        if !Path::new("/").join(point).starts_with(DIR) {
            let context = || format!("what is mounted at /{}", text::path(point));
            bind(point, &root).with_context(context)?;
        }
    }
    rustix::process::fchdir(&root)?;
    // The old root is on top of the new one then, until it is taken away.
    pivot_root(".", ".").context("changing the root")?;
    unmount(".", UnmountFlags::DETACH).context("leaving the old root")?;
    std::env::set_current_dir("/")?;
    for dir in hidden {
        let flags =
            MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount("none", dir, "tmpfs", flags, c"mode=555,size=0").with_context(|| text::path(dir))?;
    }
    if is_read_only {
        rustix::mount::mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
            .context("a read-only root")?;
    }
    Ok(())
}

fn overlay(lower: &Path, changes: &Path, at: &Path) -> Result<()> {
    let (upper, work) = (changes.join("upper"), changes.join("work"));
    for dir in [&upper, &work] {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.with_context(|| text::path(dir))?,
        }
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options)?;
    mount(
        "puzzlefs",
        at,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .context("an overlayfs for what is changed")
}

/// Has what is mounted at `point` of the old root appear in the new one, where that leads to: links lead to what they do
/// within it. What is not there is made.
fn bind(point: &Path, root: &OwnedFd) -> Result<()> {
    let from = Path::new("/").join(point);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = match open_tree(CWD, &from, flags) {
        // It was taken away, or lies below something else that is mounted.
        Err(Errno::NOENT) => return Ok(()),
        tree => tree?,
    };
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode).is_dir();
    let target = target(root, point, is_dir)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(&tree, "", &target, "", flags)?)
}

/// The file or directory that `path` leads to within `root`, which is made if it is not there.
fn target(root: &OwnedFd, path: &Path, is_dir: bool) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..TRIES {
        match within(root, &path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        // The first one on the way that is not there.
        let (mut missing, mut rest) = (PathBuf::new(), path.components());
        for component in rest.by_ref() {
            missing.push(component);
            if within(root, &missing, OFlags::PATH).is_err() {
                break;
            }
        }
        let rest = rest.as_path().to_owned();
        let (Some(above), Some(Component::Normal(name))) =
            (missing.parent(), missing.components().next_back())
        else {
            bail!(Error::refused("it leads nowhere"));
        };
        let at = Path::new(".").join(above);
        let dir = within(root, &at, OFlags::PATH | OFlags::DIRECTORY)?;
        if let Ok(link) = rustix::fs::readlinkat(&dir, name, Vec::new()) {
            // It leads to what is not there.
            let link = Path::new(OsStr::from_bytes(link.as_bytes())).to_owned();
            let link = link
                .strip_prefix("/")
                .map_or_else(|_| above.join(&link), Path::to_owned);
            // Joined with nothing it would be a directory's name.
            path = match rest.as_os_str().is_empty() {
                true => link,
                false => link.join(rest),
            };
        } else if rest.as_os_str().is_empty() && !is_dir {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))?;
        } else {
            rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755))?;
        }
    }
    bail!(Error::refused("it leads nowhere"))
}

fn within(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_within_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("var")).unwrap();
        fs::write(at("file"), "old").unwrap();
        for (link, to) in [
            ("var/run", "../run"),
            ("up", "../../../../elsewhere"),
            ("etc", "/own/etc"),
            ("loop", "loop"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        for (point, is_dir, is) in [
            ("var/run/secrets/token", true, "run/secrets/token"),
            ("up/file", false, "elsewhere/file"),
            ("etc/hosts", false, "own/etc/hosts"),
            ("file", false, "file"),
            ("new/dir", true, "new/dir"),
        ] {
            target(&root, Path::new(point), is_dir).unwrap();
            let found = fs::symlink_metadata(at(is)).unwrap();
            assert_eq!(found.is_dir(), is_dir, "{point}");
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"old");
        for nowhere in ["loop/x", "file/x"] {
            assert!(
                target(&root, Path::new(nowhere), false).is_err(),
                "{nowhere}"
            );
        }
        assert!(!dir.path().parent().unwrap().join("elsewhere").exists());
    }
}
