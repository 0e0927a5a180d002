// SPDX-License-Identifier: Apache-2.0
//! Mounting by the new mount API (fsopen(2) and its kin), whose messages say why the
//! kernel refused.
//!
//! - this file: mounting;
//! - [`fusermount`]: mounting and unmounting FUSE without rights;
//! - [`options`]: the syntax of mount options;
//! - [`overlay`]: a writable view;
//! - [`stats`]: what the kernel counts of a mounted image;
//! - [`table`]: what is mounted: unmounting and remounting.

pub(crate) mod fusermount;
pub mod options;
pub mod overlay;
pub mod stats;
pub mod table;

use std::fmt;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{bail, Context, Result};
use puzzlefs_format::Digest;
use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags,
};

use crate::base::error::{Error, Where};
use crate::layout::reference::{Name, Reference};
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
    /// With which mode to make the mount point, if it is to be made.
    make_target: Option<u32>,
    /// A manifest of the layout stands for the one that was named.
    is_stand_in: bool,
    ignored: Vec<String>,
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
    pub fn of_image(reference: &Reference) -> crate::Result<Self> {
        let layout = Layout::open(&reference.layout)?;
        let manifest = layout.resolve(&reference.name)?.digest;
        let dir = reference.layout.canonicalize()?;
        let source = Reference {
            layout: dir.clone(),
            name: reference.name.clone(),
        };
        let mut request = Self::of_options(&source.to_string());
        request.is_stand_in =
            matches!(&reference.name, Name::Digest(digest) if *digest != manifest);
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
            make_target: None,
            is_stand_in: false,
            ignored: Vec::new(),
        }
    }

    /// Adds options as `mount -o` has them ([`options`]). Those of the mount (nosuid, noatime ...)
    /// are told from those of the filesystem. `X-mount.mkdir` makes the mount point; what else is
    /// for mount(8) and init (noauto, user, x-...) is left out.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn add_options(&mut self, text: &str) -> crate::Result<()> {
        for option in options::parse(text)? {
            if let Some((set, clear)) = option.of_mount() {
                self.attributes = self.attributes & !clear.bits() | set.bits();
            } else if option.name.eq_ignore_ascii_case("X-mount.mkdir") {
                self.make_target = Some(target_mode(option.value.as_deref())?);
            } else if option.is_for_others() {
                let is_ignored = !option.name.starts_with("X-mount.");
                self.ignored.extend((!is_ignored).then_some(option.name));
            } else {
                let value = option.value.map_or(Value::Flag, Value::Text);
                self.options.push((option.name, value));
            }
        }
        Ok(())
    }

    /// Where the options name a manifest by a pull, of which the layout has not all that it lists, takes the
    /// local one that stands for it. What the options name is as it was in all other cases, as if something
    /// is wrong there: the kernel says what.
    pub fn resolve_stand_in(&mut self) {
        let text = |wanted: &str| {
            // The last one counts.
            let mut options = self.options.iter().rev();
            options.find_map(|(name, value)| match value {
                Value::Text(text) if name == wanted => Some(text.clone()),
                _ => None,
            })
        };
        let named = text("oci_root_dir").zip(text("image_manifest"));
        let Some((dir, manifest)) = named else {
            return;
        };
        let hex = manifest.strip_prefix("sha256:").unwrap_or(&manifest);
        let Ok(digest) = Digest::parse(hex.as_bytes()) else {
            return;
        };
        let found = Layout::open(Path::new(&dir)).and_then(|it| it.resolve(&Name::Digest(digest)));
        let local = found.ok().filter(|found| found.digest != digest);
        if let Some(local) = local {
            self.is_stand_in = true;
            self.options.retain(|(name, _)| name != "image_manifest");
            let value = Value::Text(local.digest.to_string());
            self.options.push(("image_manifest".into(), value));
        }
    }

    /// Options that would do something if mount(8) did the mount, as `X-mount.idmap`.
    pub fn only_by_mount8(&self) -> &[String] {
        &self.ignored
    }

    /// Mounts at the directory `target`.
    ///
    /// # Errors
    ///
    /// The kernel's messages and its errno.
    pub fn mount(&self, target: &Path) -> crate::Result<()> {
        self.try_mount(target).map_err(of_image).at(target)
    }

    /// Whoever names a manifest has not said that the fs-verity digests of another are right.
    fn refuse_other_digests(&self) -> Result<()> {
        let says = |(name, value): &(String, Value)| {
            name == "verify" && matches!(value, Value::Text(text) if text == "fsverity")
        };
        if self.is_stand_in && self.options.iter().any(says) {
            let text =
                "verify=fsverity relies on the manifest that is named, and not all that it lists \
                        is here: run puzzlefs complete before";
            return Err(Error::refused(text).into());
        }
        Ok(())
    }

    fn try_mount(&self, target: &Path) -> Result<()> {
        self.attach(&self.detached()?, target)
    }

    /// Makes the mount point, if that is to be done.
    pub(crate) fn make_target(&self, target: &Path) -> Result<()> {
        let Some(mode) = self.make_target else {
            return Ok(());
        };
        let made = DirBuilder::new().recursive(true).mode(mode).create(target);
        made.with_context(|| format!("making the mount point {}", target.display()))
    }

    /// The attributes of the mount, as `mount -o` has them.
    pub(crate) fn attribute_names(&self) -> impl Iterator<Item = &'static str> {
        options::names(MountAttrFlags::from_bits_retain(self.attributes))
    }

    /// Has a mount that is nowhere yet appear at `target`.
    pub(crate) fn attach(&self, mount: &OwnedFd, target: &Path) -> Result<()> {
        self.make_target(target)?;
        move_mount(
            mount.as_fd(),
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .with_context(|| format!("mounting at {}", target.display()))
    }

    /// What to do where the kernel has no module or the caller no rights.
    fn hint(&self, text: &str) -> String {
        match self.fs_type {
            FS_TYPE => format!(",{text}: puzzlefs mount --fuse"),
            _ => String::new(),
        }
    }

    /// A mount that is nowhere yet. It ends with the file, unless it was moved somewhere.
    ///
    /// # Errors
    ///
    /// As of [`Request::mount`].
    pub(crate) fn detached(&self) -> Result<OwnedFd> {
        self.refuse_other_digests()?;
        let fs = match fsopen(self.fs_type, FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NODEV) => bail!(
                "the kernel has no filesystem {0}: load the module (modprobe {0}){1}",
                self.fs_type,
                self.hint(" or mount it without")
            ),
            Err(Errno::PERM) => {
                let hint = self.hint(" but for");
                let denied = Err(Errno::PERM);
                return denied.with_context(|| format!("only root may mount{hint}: fsopen"));
            }
            fs => fs.context("fsopen")?,
        };
        let kernel = |result: rustix::io::Result<()>, what: &str| {
            result.map_err(|errno| refusal(&fs, what, errno))
        };
        // It is for people, and no layout is too deep to be mounted for its sake.
        if self.source.len() <= VALUE_MAX {
            kernel(fsconfig_set_string(&fs, "source", &*self.source), "source")?;
        }
        configure(&fs, &self.options)?;
        kernel(fsconfig_create(&fs), "mount")?;
        let attributes = MountAttrFlags::from_bits_retain(self.attributes);
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| refusal(&fs, "fsmount", errno).into())
    }
}

/// Gives the kernel the options of a filesystem.
pub(crate) fn configure(fs: &OwnedFd, options: &[(String, Value)]) -> Result<()> {
    for (name, value) in options {
        let set = match value {
            Value::Text(value) if value.len() > VALUE_MAX => {
                bail!("{name}={value}: fsconfig(2) takes no value of more than {VALUE_MAX} bytes; use a shorter path")
            }
            Value::Text(value) => fsconfig_set_string(fs, name, value),
            Value::File(file) => fsconfig_set_fd(fs, name, file),
            Value::Flag => fsconfig_set_flag(fs, name),
        };
        set.map_err(|errno| refusal(fs, name, errno))?;
    }
    Ok(())
}

/// A directory, open as a place and for nothing else.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| path.display().to_string())
}

/// fsconfig(2) copies a string of this many bytes and the NUL (fs/fsopen.c).
const VALUE_MAX: usize = 255;

/// Refuses what only mount(8) does.
pub fn refuse_others(request: &Request) -> crate::Result<()> {
    match request.only_by_mount8() {
        [] => Ok(()),
        [first, ..] => Err(Error::refused(format!(
            "{first} is done by mount(8): use mount -t {FS_TYPE}"
        ))),
    }
}

/// The mode that `X-mount.mkdir` says.
fn target_mode(value: Option<&str>) -> Result<u32> {
    let mode = value.map_or(Some(0o755), |value| u32::from_str_radix(value, 8).ok());
    let mode = mode.filter(|mode| *mode <= 0o7777);
    mode.with_context(|| format!("X-mount.mkdir={}: no octal mode", value.unwrap_or_default()))
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
        write!(f, "{}{}", self.messages, self.what)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.errno)
    }
}

/// Why an image is not mounted. The kernel has read it by then, and says by its errno if it is not sound.
fn of_image(error: anyhow::Error) -> Error {
    let refusal = error.downcast_ref::<Refusal>();
    match refusal.map(|refusal| refusal.errno) {
        Some(Errno::BADMSG | Errno::UCLEAN | Errno::NODATA) => Error::Damaged(error.into()),
        _ => error.into(),
    }
}

/// Takes the messages that the kernel left in the context, one at a read(2).
pub(crate) fn refusal(fs: &OwnedFd, what: &str, errno: Errno) -> Refusal {
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
        let mut add = |text| request.add_options(text);
        add("ro,nosuid,noatime,nodev,dev,oci_root_dir=/a=b,x-systemd.automount,noauto,flag")
            .unwrap();
        add("X-mount.mkdir=0700,comment=a,user=b,users,nofail,_netdev,silent,X-vendor.x").unwrap();
        assert_eq!(request.make_target, Some(0o700));
        assert_eq!(request.only_by_mount8(), [""; 0]);
        request.add_options("X-mount.idmap=b:0:1000:1").unwrap();
        assert_eq!(request.only_by_mount8(), ["X-mount.idmap"]);
        for bad in ["context=\"a", "X-mount.mkdir=9", "X-mount.mkdir=70000"] {
            assert!(request.add_options(bad).is_err(), "{bad}");
        }
        assert_eq!(request.to_string(), "oci_root_dir=/a=b,flag");
        let expected = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOATIME;
        assert_eq!(request.attributes, expected.bits());
    }
}
