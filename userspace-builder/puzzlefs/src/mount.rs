// SPDX-License-Identifier: Apache-2.0
//! Mounting by the new mount API (fsopen(2) and its kin), whose messages say why the
//! kernel refused.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{bail, Context, Result};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags,
};

use crate::layout::Layout;
use crate::reference::Reference;

/// Name of the kernel's filesystem.
pub const FS_TYPE: &str = "puzzlefs";

/// What to mount, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Options for the filesystem, in order; without a value they are flags.
    pub options: Vec<(String, Option<String>)>,
    /// What the mount table shows as its source.
    pub source: String,
    attributes: u32,
}

impl Request {
    /// A mount of the image that `reference` names.
    pub fn of_image(reference: &Reference) -> Result<Self> {
        let layout = Layout::open(&reference.layout)?;
        let manifest = layout.resolve(&reference.tag)?.digest;
        let dir = reference.layout.canonicalize()?;
        let dir = dir
            .to_str()
            .with_context(|| format!("{} is not UTF-8", dir.display()))?;
        Ok(Request {
            options: vec![
                ("oci_root_dir".into(), Some(dir.to_owned())),
                ("image_manifest".into(), Some(manifest.to_string())),
            ],
            source: format!("{dir}:{}", reference.tag),
            attributes: 0,
        })
    }

    /// A mount that the options alone describe.
    pub fn of_options(source: &str) -> Self {
        Request {
            source: source.to_owned(),
            ..Request::default()
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
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (option, None),
                };
                self.options.push((name.to_owned(), value));
            }
        }
    }
}

const NONE: MountAttrFlags = MountAttrFlags::empty();
const ATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;

/// fsconfig(2) copies a string of this many bytes and the NUL (fs/fsopen.c).
const VALUE_MAX: usize = 255;

/// Options of a mount: name, attributes that it sets and that it clears (MOUNT_ATTR_*
/// of include/uapi/linux/mount.h). `rw` is not here: the kernel is to refuse it.
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

/// Mounts at the directory `target`.
///
/// # Errors
///
/// The kernel's messages and its errno.
pub fn mount(request: &Request, target: &Path) -> Result<()> {
    let fs = match fsopen(FS_TYPE, FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NODEV) => {
            bail!("the kernel has no filesystem {FS_TYPE}: load the module (modprobe {FS_TYPE})")
        }
        Err(Errno::PERM) => bail!("only root may mount (fsopen: {})", Errno::PERM),
        fs => fs.context("fsopen")?,
    };
    let kernel = |result: rustix::io::Result<()>, what: &str| {
        result.map_err(|errno| refusal(&fs, what, errno))
    };
    kernel(
        fsconfig_set_string(&fs, "source", &*request.source),
        "source",
    )?;
    for (name, value) in &request.options {
        match value {
            Some(value) if value.len() > VALUE_MAX => {
                bail!("{name}={value}: fsconfig(2) takes no value of more than {VALUE_MAX} bytes; use a shorter path")
            }
            Some(value) => kernel(fsconfig_set_string(&fs, name, value), name)?,
            None => kernel(fsconfig_set_flag(&fs, name), name)?,
        }
    }
    kernel(fsconfig_create(&fs), "mount")?;
    let attributes = MountAttrFlags::from_bits_retain(request.attributes);
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| refusal(&fs, "fsmount", errno))?;
    move_mount(
        mount.as_fd(),
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .with_context(|| format!("mounting at {}", target.display()))
}

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

/// The messages that the kernel left in the context, one at a read(2), and the errno.
fn refusal(fs: &OwnedFd, what: &str, errno: Errno) -> anyhow::Error {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = rustix::io::read(fs, &mut buffer) {
        // "e message", "w message" or "i message".
        let message = String::from_utf8_lossy(&buffer[..len]);
        let message = message.trim_end();
        text += message.get(2..).unwrap_or(message);
        text += "; ";
    }
    let raw = errno.raw_os_error();
    anyhow::anyhow!("{text}{what}: {errno} (errno {raw})")
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
        let options: Vec<_> = request
            .options
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_deref()))
            .collect();
        assert_eq!(options, [("oci_root_dir", Some("/a=b")), ("flag", None)]);
        let expected = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        assert_eq!(request.attributes, expected.bits());
    }
}
