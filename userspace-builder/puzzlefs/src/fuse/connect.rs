// SPDX-License-Identifier: Apache-2.0
//! The way to the kernel: /dev/fuse and the mount, by mount(2)'s successors for who may call them, by
//! fusermount3 for all others.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use rustix::io::Errno;

use crate::base::error::{said_by_system, Error};
use crate::mount::{fusermount, Request, Value};

const DEVICE: &str = "/dev/fuse";
/// What /proc/mounts shows as the type behind `fuse.`.
const SUBTYPE: &str = "puzzlefs";

/// A connection to the kernel, at the other end of which a filesystem is to be served.
pub(super) struct Connection {
    /// What is called `source` in the mount table, and the options.
    request: Request,
    /// The kernel's end, until it is taken.
    pub(super) device: Option<OwnedFd>,
    /// The mount, which is nowhere yet. None if fusermount3 has mounted it.
    mount: Option<OwnedFd>,
}

impl Connection {
    /// Mounts for `target`, with options as mount(8) has them.
    ///
    /// # Errors
    ///
    /// There is no /dev/fuse, or nobody who may mount.
    pub(super) fn new(source: &str, target: &Path, options: &[String]) -> Result<Self> {
        let mut request = Request::new("fuse", source);
        for text in options {
            request.add_options(text)?;
        }
        crate::mount::refuse_others(&request)?;
        let flags = ["ro", "default_permissions"];
        let added = flags.map(|name| (name.to_owned(), Value::Flag));
        request
            .options
            .retain(|(name, _)| !flags.contains(&&**name));
        request.options.extend(added);
        match direct(&mut request) {
            Ok((device, mount)) => Ok(Connection {
                request,
                device: Some(device.into()),
                mount: Some(mount),
            }),
            Err(error) if is_denied(&error) => Self::by_fusermount(request, target),
            Err(error) => Err(error),
        }
    }

    fn by_fusermount(request: Request, target: &Path) -> Result<Self> {
        request.make_target(target)?;
        let mut options = vec![format!("fsname={}", fusermount::escaped(&request.source))];
        options.push(format!("subtype={SUBTYPE}"));
        options.extend(request.attribute_names().map(str::to_owned));
        for (name, value) in &request.options {
            options.push(match value {
                Value::Text(value) => format!("{name}={}", fusermount::escaped(value)),
                Value::Flag | Value::File(_) => name.clone(),
            });
        }
        let device = fusermount::mount(target, &options.join(","))?;
        Ok(Connection {
            request,
            device: Some(device),
            mount: None,
        })
    }

    /// Has it appear at `target`. Nothing is held of it then, which would keep it from being unmounted.
    pub(super) fn attach(self, target: &Path) -> Result<()> {
        match &self.mount {
            Some(mount) => self.request.attach(mount, target),
            None => Ok(()),
        }
    }
}

/// The device of FUSE, which is a connection of its own each time that it is opened.
fn device() -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        if is_missing || errno == Some(Errno::NODEV) {
            let text = format!("{DEVICE}: {error}: the kernel has no FUSE (modprobe fuse)");
            return Error::refused(text).into();
        }
        anyhow::Error::from(error).context(DEVICE)
    })
}

/// The same, for all users, with nothing chosen.
pub(super) fn bare(source: &str) -> Result<(OwnedFd, OwnedFd)> {
    let mut request = Request::new("fuse", source);
    let flags = ["ro", "default_permissions", "allow_other"];
    let flags = flags.map(|name| (name.to_owned(), Value::Flag));
    request.options.extend(flags);
    let (device, mount) = direct(&mut request)?;
    Ok((device.into(), mount))
}

/// A connection, and a mount by the kernel itself.
fn direct(request: &mut Request) -> Result<(File, OwnedFd)> {
    let device = device()?;
    let before = request.options.len();
    let mut add = |name: &str, value: String| {
        request.options.push((name.to_owned(), Value::Text(value)));
    };
    add("subtype", SUBTYPE.to_owned());
    add("fd", device.as_raw_fd().to_string());
    add("rootmode", "40000".to_owned());
    add("user_id", rustix::process::getuid().as_raw().to_string());
    add("group_id", rustix::process::getgid().as_raw().to_string());
    let mount = request.detached();
    request.options.truncate(before);
    Ok((device, mount?))
}

/// Whether the caller lacks the right to do it, and fusermount3 may have it.
fn is_denied(error: &anyhow::Error) -> bool {
    let said = said_by_system(error);
    said.iter()
        .any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
