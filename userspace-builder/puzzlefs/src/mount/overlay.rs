// SPDX-License-Identifier: Apache-2.0
//! A writable view of an image: an overlayfs over a mount of it that is nowhere else.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use puzzlefs_format::FileType;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::base::error::Where;
use crate::host::xattr;
use crate::mount::{directory, refuse_others, Refusal, Request, Value};

/// Mounts `image` at `target`; what is changed there goes to `dir`/upper, and `dir`/work is
/// overlayfs's own. Both are made if need be. `options` are as `mount -o` has them, those that
/// are not of the mount for overlayfs.
///
/// It has an index: hard links stay hard links when one is written to, and overlayfs refuses a
/// `dir` that is in use, or that was written over another image.
///
/// # Errors
///
/// What keeps the layers from being made, and what the kernel says. Directories that were made
/// for nothing are gone.
pub fn mount(image: &Request, dir: &Path, options: &[String], target: &Path) -> crate::Result<()> {
    let lower = image.detached()?;
    let mut made = Made::default();
    let layers = layers(dir, &lower, &mut made)?;
    let mut overlay = Request::new("overlay", &image.source);
    overlay.options = vec![
        ("lowerdir+".into(), Value::File(lower)),
        ("upperdir".into(), Value::File(layers.0)),
        ("workdir".into(), Value::File(layers.1)),
        ("index".into(), Value::Text("on".into())),
    ];
    for options in options {
        overlay.add_options(options)?;
    }
    refuse_others(&overlay)?;
    let mounted = overlay.try_mount(target);
    mounted.map_err(|error| explain(error, dir)).at(target)?;
    made.0.clear();
    Ok(())
}

/// The upper and the work directory in `dir`.
fn layers(dir: &Path, lower: &OwnedFd, made: &mut Made) -> Result<(OwnedFd, OwnedFd)> {
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    made.directory(dir)?;
    if made.directory(&upper)? {
        // The root of an overlayfs is that of its upper layer.
        resemble(&upper, lower)?;
    }
    made.directory(&work)?;
    Ok((directory(&upper)?, directory(&work)?))
}

/// Gives the directory `to` owner, mode, time and extended attributes of the directory `from`,
/// and nothing that it has of its surroundings.
pub(crate) fn resemble(to: &Path, from: &OwnedFd) -> Result<()> {
    let (to, context) = (fs::File::open(to)?, || to.display().to_string());
    xattr::remove_acls(&to).with_context(context)?;
    let (xattrs, _) = xattr::read(from.as_fd(), b".", FileType::Dir)?;
    for (name, value) in xattrs {
        // An upper layer that is called opaque would hide the image.
        if !name.starts_with(b"trusted.overlay.") {
            let set = rustix::fs::fsetxattr(&to, &name[..], &value, XattrFlags::empty());
            set.with_context(context)?;
        }
    }
    let from = rustix::fs::statat(from, "", AtFlags::EMPTY_PATH).context("the image's root")?;
    let (uid, gid) = (Uid::from_raw(from.st_uid), Gid::from_raw(from.st_gid));
    let time = Timespec {
        tv_sec: from.st_mtime,
        tv_nsec: from.st_mtime_nsec as _,
    };
    rustix::fs::fchown(&to, Some(uid), Some(gid)).with_context(context)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(from.st_mode)).with_context(context)?;
    rustix::fs::futimens(
        to.as_fd(),
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
    .with_context(context)
}

/// Says what to do about a refusal.
fn explain(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    let Some(Refusal { what, errno, .. }) = error.downcast_ref() else {
        return error;
    };
    let dir = dir.display();
    let hint = match (*errno, what.as_str()) {
        (Errno::BUSY, _) => format!(
            "{dir} is in use by another overlay: unmount that, or use another directory"
        ),
        (Errno::STALE, _) => format!(
            "{dir} was written over another image: use another directory \
             (or -o index=off, if both images have the same files)"
        ),
        (Errno::INVAL, "upperdir" | "workdir") => format!(
            "{dir} cannot be an upper layer of overlayfs: use a directory on ext4, xfs, btrfs or tmpfs"
        ),
        (Errno::INVAL, "mount") => "overlayfs says why in the kernel log (dmesg)".into(),
        _ => return error,
    };
    error.context(hint)
}

/// Directories that were made here: removed when this is dropped, as far as they are empty.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory unless it is there; says whether it made it.
    fn directory(&mut self, path: &Path) -> Result<bool> {
        match fs::create_dir(path) {
            Ok(()) => self.0.push(path.to_owned()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
                return Ok(false)
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("making the directory {}", path.display()))
            }
        }
        Ok(true)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // What overlayfs may have made in its work directory.
            for name in ["work", "index"] {
                let _ = fs::remove_dir(path.join(name));
            }
            let _ = fs::remove_dir(path);
        }
    }
}
