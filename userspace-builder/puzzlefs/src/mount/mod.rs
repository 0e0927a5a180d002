// SPDX-License-Identifier: Apache-2.0
//! Mounting by the new mount API (fsopen(2) and its kin), whose messages say why the
//! kernel refused.
//!
//! - this file: mounting and unmounting;
//! - [`overlay`]: a writable view;
//! - [`stats`]: what the kernel counts of a mounted image.

pub mod overlay;
pub mod stats;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{bail, Context, Result};
use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, unmount, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags,
};

use crate::layout::reference::Reference;
use crate::layout::Layout;

/// Name of the kernel's filesystem.
pub const FS_TYPE: &str = "puzzlefs";

/// What to mount, and how.
#[derive(Debug)]
pub struct Request {
    /// The kernel's name of the filesystem.
    fs_type: &'static str,
    /// Options for the filesystem, in order.
    pub options: Vec<(String, Value)>,
    /// What the mount table shows as its source.
    pub source: String,
    attributes: u32,
}

/// The options, as `mount -o` has them, those without what is not text.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.options.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match value {
                Value::Text(text) => write!(f, "{comma}{name}={text}")?,
                Value::Flag | Value::File(_) => write!(f, "{comma}{name}")?,
            }
        }
        Ok(())
    }
}

/// The value of an option, as fsconfig(2) takes it.
#[derive(Debug)]
pub enum Value {
    /// None: the option is a flag.
    Flag,
    /// What stands behind the equals sign.
    Text(String),
    /// An open file: of any path, or of none.
    File(OwnedFd),
}

impl Request {
    /// A mount of the image that `reference` names.
    pub fn of_image(reference: &Reference) -> Result<Self> {
        let layout = Layout::open(&reference.layout)?;
        let manifest = layout.resolve(&reference.name)?.digest;
        let dir = reference.layout.canonicalize()?;
        let source = Reference {
            layout: dir.clone(),
            name: reference.name.clone(),
        };
        let mut request = Self::of_options(&source.to_string());
        request.options = vec![
            ("oci_root_dir".into(), Value::File(directory(&dir)?)),
            ("image_manifest".into(), Value::Text(manifest.to_string())),
        ];
        Ok(request)
    }

    /// A mount that the options alone describe.
    pub fn of_options(source: &str) -> Self {
        Self::new(FS_TYPE, source)
    }

    /// A mount of another filesystem.
    pub(crate) fn new(fs_type: &'static str, source: &str) -> Self {
        Request {
            fs_type,
            options: Vec::new(),
            source: source.to_owned(),
            attributes: 0,
        }
    }

    /// Adds options as `mount -o` has them, separated by commas. Those of the mount
    /// (nosuid, noatime ...) are told from those of the filesystem, and those that
    /// only mean something in fstab (noauto, user, x-...) are left out.
    pub fn add_options(&mut self, text: &str) {
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let known = MOUNT_OPTIONS.iter().find(|(name, ..)| *name == option);
            if let Some((_, set, clear)) = known {
                self.attributes = self.attributes & !clear.bits() | set.bits();
            } else if !FSTAB_ONLY.contains(&option)
                && !option.starts_with("x-")
                && !option.starts_with("comment=")
            {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Value::Text(value.to_owned())),
                    None => (option, Value::Flag),
                };
                self.options.push((name.to_owned(), value));
            }
        }
    }

    /// Mounts at the directory `target`.
    ///
    /// # Errors
    ///
    /// The kernel's messages and its errno.
    pub fn mount(&self, target: &Path) -> Result<()> {
        move_mount(
            self.detached()?.as_fd(),
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .with_context(|| format!("mounting at {}", target.display()))
    }

    /// A mount that is nowhere yet. It ends with the file, unless it was moved somewhere.
    ///
    /// # Errors
    ///
    /// As of [`Request::mount`].
    pub(crate) fn detached(&self) -> Result<OwnedFd> {
        let fs = match fsopen(self.fs_type, FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NODEV) => bail!(
                "the kernel has no filesystem {0}: load the module (modprobe {0})",
                self.fs_type
            ),
            Err(Errno::PERM) => bail!("only root may mount (fsopen: {})", Errno::PERM),
            fs => fs.context("fsopen")?,
        };
        let kernel = |result: rustix::io::Result<()>, what: &str| {
            result.map_err(|errno| refusal(&fs, what, errno))
        };
        // It is for people, and no layout is too deep to be mounted for its sake.
        if self.source.len() <= VALUE_MAX {
            kernel(fsconfig_set_string(&fs, "source", &*self.source), "source")?;
        }
        for (name, value) in &self.options {
            match value {
                Value::Text(value) if value.len() > VALUE_MAX => {
                    bail!("{name}={value}: fsconfig(2) takes no value of more than {VALUE_MAX} bytes; use a shorter path")
                }
                Value::Text(value) => kernel(fsconfig_set_string(&fs, name, value), name)?,
                Value::File(file) => kernel(fsconfig_set_fd(&fs, name, file), name)?,
                Value::Flag => kernel(fsconfig_set_flag(&fs, name), name)?,
            }
        }
        kernel(fsconfig_create(&fs), "mount")?;
        let attributes = MountAttrFlags::from_bits_retain(self.attributes);
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| refusal(&fs, "fsmount", errno).into())
    }
}

/// A directory, open as a place and for nothing else.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| path.display().to_string())
}

const NONE: MountAttrFlags = MountAttrFlags::empty();
const ATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;

/// fsconfig(2) copies a string of this many bytes and the NUL (fs/fsopen.c).
const VALUE_MAX: usize = 255;

/// Options of a mount: name, attributes that it sets and that it clears (MOUNT_ATTR_*
/// of include/uapi/linux/mount.h). `rw` is not here: it is the filesystem's to ignore.
const MOUNT_OPTIONS: &[(&str, MountAttrFlags, MountAttrFlags)] = &[
    ("defaults", NONE, NONE),
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY, NONE),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID, NONE),
    ("suid", NONE, MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV, NONE),
    ("dev", NONE, MountAttrFlags::MOUNT_ATTR_NODEV),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC, NONE),
    ("exec", NONE, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME, ATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, ATIME),
    ("relatime", NONE, ATIME),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, NONE),
    ("diratime", NONE, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, NONE),
    ("symfollow", NONE, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Options that mount(8) and init interpret (fstab(5)).
const FSTAB_ONLY: &[&str] = &[
    "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "async",
    "loud",
];

/// Unmounts what is mounted at `target`; `lazy` as umount(8) -l.
pub fn umount(target: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match unmount(target, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL) => bail!("{} is no mount point", target.display()),
        Err(Errno::BUSY) => bail!("{} is in use (see fuser -m {0})", target.display()),
        result => result.with_context(|| format!("unmounting {}", target.display())),
    }
}

/// Why the kernel refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The messages that it left.
    messages: String,
    /// The option or the step.
    pub(crate) what: String,
    pub(crate) errno: Errno,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.messages, self.what, self.errno)
    }
}

impl std::error::Error for Refusal {}

/// Takes the messages that the kernel left in the context, one at a read(2).
fn refusal(fs: &OwnedFd, what: &str, errno: Errno) -> Refusal {
    let mut messages = String::new();
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = rustix::io::read(fs, &mut buffer) {
        // "e message", "w message" or "i message".
        let message = String::from_utf8_lossy(&buffer[..len]);
        let message = message.trim_end();
        messages += message.get(2..).unwrap_or(message);
        messages += "; ";
    }
    Refusal {
        messages,
        what: what.to_owned(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let mut request = Request::of_options("none");
        request.add_options(
            "ro,nosuid,noatime,nodev,dev,oci_root_dir=/a=b,x-systemd.automount,noauto,flag",
        );
        assert_eq!(request.to_string(), "oci_root_dir=/a=b,flag");
        let expected = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        assert_eq!(request.attributes, expected.bits());
    }
}
