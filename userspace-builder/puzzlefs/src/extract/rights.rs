// SPDX-License-Identifier: Apache-2.0
//! What a file is besides its content, as far as the caller has the right to set it: by what each
//! call says, not by who the caller is, for root may lack capabilities, and that of a user
//! namespace has few.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use puzzlefs_format::{xattr_is_shown, FileType, Inode};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::base::text;
use crate::host::xattr;
use crate::image::work::Work;

const SET_ID: u32 = 0o6000;
const CAPABILITY: &[u8] = b"security.capability";

/// What was extracted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Report {
    /// Names made, the target itself aside.
    pub names: u64,
    /// What was there before and was no directory that stays: replaced by one of these.
    pub replaced: u64,
    /// Bytes of files.
    pub data_bytes: u64,
    /// Owners, modes, devices and extended attributes that the caller had no right to set.
    pub skipped: u64,
    /// Extended attributes that readers leave out (FORMAT.md, section 3.3), and that are a second
    /// one of their name.
    pub hidden: u64,
}

/// Who the caller is, as far as that matters.
pub(super) struct Rights {
    /// Root restores what the image says; for others the umask applies, and nothing becomes
    /// set-id.
    is_root: bool,
    umask: u32,
}

impl Rights {
    pub(super) fn new() -> Self {
        // umask(2) can only ask by setting it, for all threads.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = umask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
        Rights {
            is_root: rustix::process::geteuid().is_root(),
            umask: umask.unwrap_or(0o077),
        }
    }

    /// Gives `name` in `dir` all that `inode` has. Its owner last, since who gives a file away may
    /// have no right to it any more, and then what chown(2) clears. All but utimensat(2) leave
    /// the time of modification alone.
    pub(super) fn set(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        inode: &Inode<'_>,
        work: &Work,
        report: &mut Report,
    ) -> Result<()> {
        let capability = xattrs(dir, name, inode, work, report)?;
        let is_link = inode.file_type() == FileType::Symlink;
        let wanted = u32::from(inode.permissions());
        let mode = match self.is_root {
            true => wanted,
            false => wanted & !self.umask & !SET_ID,
        };
        let chmod = |mode| {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty())
        };
        if !is_link {
            report.allowed(chmod(mode & !SET_ID)).context("its mode")?;
        }
        let mtime = inode.mtime();
        let time = Timespec {
            tv_sec: mtime.sec,
            tv_nsec: mtime.nsec.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        let set = rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        report.allowed(set).context("its times")?;
        let is_owned = self.own(dir, name, inode, report)?;
        if !is_link && wanted & SET_ID != 0 {
            // As a set-id file of somebody else it would give away other rights.
            let may = self.is_root && is_owned;
            if may && report.allowed(chmod(mode)).context("its mode")? {
                // Who is not in the group of a file is not told that this bit was left out.
                let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
                report.skipped += u64::from(found & SET_ID != mode & SET_ID);
            } else if !may {
                report.skipped += 1;
            }
        }
        if let Some(value) = capability {
            set_xattr(dir, name, CAPABILITY, value, report)?;
        }
        Ok(())
    }

    /// Whether the file now has the owner and the group that the image says.
    fn own(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        inode: &Inode<'_>,
        report: &mut Report,
    ) -> Result<bool> {
        let (uid, gid) = (Uid::from_raw(inode.uid()), Gid::from_raw(inode.gid()));
        if self.is_root {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let set = rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags);
            return report.allowed(set).context("its owner");
        }
        let is_owned = uid == rustix::process::geteuid() && gid == rustix::process::getegid();
        report.skipped += u64::from(!is_owned);
        Ok(is_owned)
    }
}

impl Report {
    /// Both together.
    pub(super) fn with(&self, other: &Report) -> Self {
        let sum = |one: u64, other: u64| one.saturating_add(other);
        Report {
            names: sum(self.names, other.names),
            replaced: sum(self.replaced, other.replaced),
            data_bytes: sum(self.data_bytes, other.data_bytes),
            skipped: sum(self.skipped, other.skipped),
            hidden: sum(self.hidden, other.hidden),
        }
    }

    /// Whether a call worked. One that the caller, or the filesystem, may not make is left out:
    /// EINVAL is what the kernel says to owners that a user namespace does not know.
    pub(super) fn allowed(&mut self, result: rustix::io::Result<()>) -> Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {
                self.skipped += 1;
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Sets the extended attributes that readers show; of several of one name the first. A
/// capability is handed back: it is lost with the owner.
fn xattrs<'a>(
    dir: &OwnedFd,
    name: &[u8],
    inode: &Inode<'a>,
    work: &Work,
    report: &mut Report,
) -> Result<Option<&'a [u8]>> {
    let xattrs = inode.xattrs()?;
    work.xattrs(&xattrs)?;
    let (mut set, mut capability) = (HashSet::new(), None);
    for index in 0..xattrs.len() {
        let item = xattrs.get(index)?;
        if !xattr_is_shown(item.name, inode.file_type()) || !set.insert(item.name) {
            report.hidden += 1;
        } else if item.name == CAPABILITY {
            capability = Some(item.value);
        } else {
            set_xattr(dir, name, item.name, item.value, report)?;
        }
    }
    Ok(capability)
}

fn set_xattr(
    dir: &OwnedFd,
    file: &[u8],
    name: &[u8],
    value: &[u8],
    report: &mut Report,
) -> Result<bool> {
    let path = xattr::path_at(dir.as_fd(), file);
    let set = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
    let context = || format!("its extended attribute {}", text::quoted(name));
    report.allowed(set).with_context(context)
}
