// SPDX-License-Identifier: Apache-2.0
//! What is mounted where, by /proc/self/mountinfo; unmounting, and remounting.

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context, Result};
use puzzlefs_format::Digest;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_reconfigure, fspick, mount_remount, unmount, FsPickFlags, MountAttrFlags, MountFlags,
    UnmountFlags,
};

use crate::base::error::{Error, Where};
use crate::base::text;
use crate::layout::reference::{Name, Reference};
use crate::mount::options::{parse, parse_shown, unescaped, MountOption};
use crate::mount::{configure, fusermount, refusal, Value, FS_TYPE};

/// The type of an image that is mounted by FUSE.
const FUSE_TYPE: &str = "fuse.puzzlefs";

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    fs_type: String,
    source: String,
    /// Options of the mount, as they are shown, and of the filesystem.
    of_mount: String,
    shown: String,
}

const TABLE: &str = "/proc/self/mountinfo";

/// What `parse` makes of the line of a mount.
fn find_line<T>(wanted: u64, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    let lines = fs::read_to_string(TABLE).with_context(|| TABLE.to_owned())?;
    Ok(lines.lines().find_map(|line| {
        let (id, _) = line.split_once(' ')?;
        (id.parse() == Ok(wanted)).then(|| parse(line))?
    }))
}

/// The device of a mount, as `MAJOR:MINOR`.
pub(crate) fn device(mount_id: u64) -> Result<Option<String>> {
    find_line(mount_id, |line| line.split(' ').nth(2).map(str::to_owned))
}

impl Entry {
    /// What is mounted at `target`, on top of all else there.
    fn at(target: &Path) -> Result<Self> {
        let entry = find_line(mount_id(target)?, Self::parse)?;
        entry.with_context(|| format!("{TABLE} does not list {}", text::path(target)))
    }

    fn parse(line: &str) -> Option<Self> {
        let (before, behind) = line.split_once(" - ")?;
        let of_mount = before.split(' ').nth(5)?.to_owned();
        let mut fields = behind.split(' ');
        Some(Entry {
            fs_type: unescaped(fields.next()?),
            source: unescaped(fields.next()?),
            of_mount,
            shown: fields.next()?.to_owned(),
        })
    }

    /// Whether it is an image, or what [`super::overlay::mount`] makes of one: an overlayfs that
    /// is called as an image and has its changes in a directory `upper`.
    fn is_ours(&self) -> bool {
        if self.fs_type != "overlay" {
            return [FS_TYPE, FUSE_TYPE].contains(&&*self.fs_type);
        }
        let options = parse_shown(&self.shown).unwrap_or_default();
        let image = self.source.parse::<Reference>();
        let has_upper = options.iter().any(|option| {
            let value = option.value.as_deref().unwrap_or_default();
            let last = Path::new(value).components().next_back();
            option.name == "upperdir" && last == Some(Component::Normal("upper".as_ref()))
        });
        image.is_ok_and(|image| image.layout.is_absolute()) && has_upper
    }
}

/// The image that is mounted by the kernel at `target`.
///
/// # Errors
///
/// If something else is mounted there.
pub fn image_at(target: &Path) -> crate::Result<Reference> {
    let entry = Entry::at(target).at(target)?;
    let options = parse_shown(&entry.shown)?;
    let value = |name: &str| {
        let mut options = options.iter().filter(|option| option.name == name);
        options.find_map(|option| option.value.clone())
    };
    let parts = value("oci_root_dir").zip(value("image_manifest"));
    let parts = parts.filter(|_| entry.fs_type == FS_TYPE);
    let found = parts.and_then(|(layout, manifest)| {
        let digest = Digest::parse(manifest.as_bytes()).ok()?;
        Some(Reference {
            layout: layout.into(),
            name: Name::Digest(digest),
        })
    });
    let text = || {
        format!(
            "{} is no mount of an image by the kernel",
            text::path(target)
        )
    };
    found.ok_or_else(|| Error::refused(text()).at(target))
}

/// The number of what is mounted at `target`, on top of all else there. It is had without a question to the
/// filesystem, which may be served by nobody any more.
pub(crate) fn mount_id(target: &Path) -> Result<u64> {
    let (flags, mask) = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID);
    let flags = flags | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(CWD, target, flags, mask);
    let found = found.with_context(|| text::path(target))?;
    if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let text = format!("{} is no mount point", text::path(target));
        return Err(Error::not_found(text).into());
    }
    Ok(found.stx_mnt_id)
}

/// Unmounts the image, or the writable view of one, at `target`; `lazy` as umount(8) -l.
///
/// # Errors
///
/// What else is mounted there stays.
pub fn umount(target: &Path, lazy: bool) -> crate::Result<()> {
    let is_fuse = ensure_ours(target).at(target)?.fs_type == FUSE_TYPE;
    let shown = text::path(target);
    let flags = match lazy {
        true => UnmountFlags::DETACH,
        false => UnmountFlags::empty(),
    };
    match unmount(target, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => {
            let text = format!("{shown} is in use (see fuser -m {shown})");
            Err(Error::refused(text).at(target))
        }
        // A user may unmount what he has mounted by FUSE.
        Err(Errno::PERM) if is_fuse => fusermount::unmount(target, lazy).at(target),
        result => result
            .with_context(|| format!("unmounting {shown}"))
            .at(target),
    }
}

fn ensure_ours(target: &Path) -> Result<Entry> {
    let entry = Entry::at(target)?;
    if entry.is_ours() {
        return Ok(entry);
    }
    let text = format!(
        "{} is a mount of {} ({}), not of an image: use umount(8)",
        text::path(target),
        text::line(&entry.fs_type),
        text::line(&entry.source)
    );
    Err(Error::refused(text).into())
}

/// Gives the mount at `target` other attributes, as `mount -o remount` does: those that `text`
/// says, and no others. It concerns the mount, not the image.
///
/// mount(8) says again what the kernel shows of the filesystem, and where a value there has a
/// comma, it takes what follows for another option. What such an option would change stays as
/// it is: nobody can tell whether it was asked for.
///
/// # Errors
///
/// What the kernel says to options of the filesystem: that they cannot be other ones.
pub fn remount(target: &Path, text: &str) -> crate::Result<()> {
    let entry = Entry::at(target)?;
    let (now, shown) = (parse(&entry.of_mount)?, parse_shown(&entry.shown)?);
    let (flags, others) = remount_flags(text, &now, &shown)?;
    if !others.is_empty() {
        let pick = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_NO_AUTOMOUNT;
        let fs = fspick(CWD, target, pick).context("fspick")?;
        configure(&fs, &others)?;
        let done = fsconfig_reconfigure(&fs);
        done.map_err(|errno| anyhow::Error::from(refusal(&fs, "remount", errno)))?;
    }
    mount_remount(target, MountFlags::BIND | flags, "")
        .with_context(|| format!("remounting {}", text::path(target)))
        .at(target)
}

/// The attributes, and the options of the filesystem that are not the same already.
fn remount_flags(
    text: &str,
    now: &[MountOption],
    shown: &[MountOption],
) -> Result<(MountFlags, Vec<(String, Value)>)> {
    // What becomes of a value with commas.
    let mut parts = Vec::new();
    for option in shown {
        let value = option.value.as_deref().unwrap_or_default();
        if value.contains(',') {
            let whole = format!("{}={value}", option.name);
            parts.extend(whole.split(',').map(MountOption::new));
        }
    }
    let before = now.iter().filter_map(MountOption::of_mount);
    let before = before.fold(MountAttrFlags::empty(), |all, (set, _)| all | set);
    let kept = parts.iter().filter_map(MountOption::of_mount);
    let kept = kept.fold(MountAttrFlags::empty(), |all, (set, clear)| {
        all | set | clear
    });
    let (mut attributes, mut others) = (MountAttrFlags::empty(), Vec::new());
    for option in parse(text)? {
        if let Some((set, clear)) = option.of_mount() {
            attributes = attributes.difference(clear) | set;
            continue;
        }
        let is_flag = matches!(&*option.name, "remount" | "rw");
        let is_same = shown.contains(&option) || parts.contains(&option);
        if !is_flag && !option.is_for_others() && !is_same {
            let value = option.value.map_or(Value::Flag, Value::Text);
            others.push((option.name, value));
        }
    }
    let attributes = attributes.difference(kept) | before.intersection(kept);
    let flags = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            MountFlags::STRICTATIME,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            MountFlags::NODIRATIME,
        ),
        // MS_NOSYMFOLLOW of include/uapi/linux/mount.h.
        (
            MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
            MountFlags::from_bits_retain(1 << 8),
        ),
    ];
    let set = flags
        .into_iter()
        .filter(|(attribute, _)| attributes.contains(*attribute));
    let flags = set.fold(MountFlags::empty(), |all, (_, flag)| all | flag);
    Ok((flags, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> Entry {
        Entry::parse(line).unwrap()
    }

    #[test]
    fn lines_are_parsed() {
        let line = "36 35 0:45 / /mnt ro,nosuid shared:1 master:2 - puzzlefs /a\\040b:tag ro,oci_root_dir=/a\\054b";
        let wanted = Entry {
            fs_type: "puzzlefs".into(),
            source: "/a b:tag".into(),
            of_mount: "ro,nosuid".into(),
            shown: "ro,oci_root_dir=/a\\054b".into(),
        };
        assert_eq!(entry(line), wanted);
        assert_eq!(Entry::parse("36 35 0:45 / /mnt ro"), None);
    }

    #[test]
    fn ours_are_told_from_others() {
        for (behind, is_ours) in [
            ("puzzlefs none ro", true),
            ("puzzlefs.x none ro", false),
            ("fuse.puzzlefs /l:tag ro,user_id=0,group_id=0", true),
            ("fuse.sshfs /l:tag ro,user_id=0,group_id=0", false),
            (
                "overlay /var/lib/images:debian rw,lowerdir+=/,upperdir=/c/upper,workdir=/c/work",
                true,
            ),
            (
                "overlay overlay rw,lowerdir=/a,upperdir=/c/upper,workdir=/c/work",
                false,
            ),
            ("overlay images:debian rw,upperdir=/c/upper", false),
            ("overlay /var/lib/images:debian rw,upperdir=/c/diff", false),
            ("overlay /var/lib/images:debian ro,lowerdir=/a:/b", false),
            ("tmpfs /var/lib/images:debian rw,upperdir=/c/upper", false),
        ] {
            let line = format!("36 35 0:45 / /mnt rw - {behind}");
            assert_eq!(entry(&line).is_ours(), is_ours, "{behind}");
        }
    }

    #[test]
    fn a_remount_takes_the_attributes_and_nothing_else() {
        let shown = "ro,context=\"u:r:t:s0:c0,c1\",oci_root_dir=/data\\054dev,image_manifest=12";
        let shown = parse_shown(shown).unwrap();
        let now = parse("ro,nosuid,nodev").unwrap();
        let of = |text: &str| {
            let (flags, others) = remount_flags(text, &now, &shown).unwrap();
            let others = others.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            (flags, others.join(" "))
        };
        // As mount(8) says it: the end of the path has become an option, or has undone one.
        let (nodev, none) = (MountFlags::NODEV, String::new());
        let flags = nodev | MountFlags::NOEXEC;
        for repeated in [
            "rw,nodev,remount,context=\"u:r:t:s0:c0,c1\",oci_root_dir=/data,dev,image_manifest=12,noexec",
            "remount,oci_root_dir=/data,image_manifest=12,noexec",
        ] {
            assert_eq!(of(repeated), (flags, none.clone()), "{repeated}");
        }
        let text = "remount,noexec,exec,x-a,noatime";
        assert_eq!(of(text), (nodev | MountFlags::NOATIME, none));
        let others = |text: &str| of(text).1;
        assert_eq!(others("verify=fsverity,image_manifest=12"), "verify");
        assert_eq!(others("image_manifest=13,flag"), "image_manifest flag");
        assert_eq!(others("oci_root_dir=/other"), "oci_root_dir");
    }

    #[test]
    fn what_is_not_ours_is_found_out() {
        // Nothing is unmounted, so that the test may fail.
        let error = Error::from(ensure_ours(Path::new("/proc")).unwrap_err());
        assert!(matches!(error, Error::Refused(_)), "{error:#}");
        assert!(error.to_string().contains("a mount of proc"), "{error:#}");
        let error = Error::from(ensure_ours(Path::new("/proc/self")).unwrap_err());
        assert!(matches!(error, Error::NotFound(_)), "{error:#}");
    }
}
