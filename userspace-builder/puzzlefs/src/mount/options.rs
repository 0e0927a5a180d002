// SPDX-License-Identifier: Apache-2.0
//! Mount options as mount(8), fstab and systemd write them.
//!
//! They are separated by commas. A comma within quotation marks, or behind a backslash, is part of
//! a value, as libmount has it: `context="system_u:object_r:etc_t:s0:c0,c1"`.

use rustix::mount::MountAttrFlags;

use crate::base::error::{Error, Result};

/// An option: its name, and what stands behind the equals sign if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOption {
    /// Its name.
    pub name: String,
    /// Its value, without quotation marks around it.
    pub value: Option<String>,
}

/// The options in `text`.
///
/// # Errors
///
/// A quotation mark that is not closed.
pub fn parse(text: &str) -> Result<Vec<MountOption>> {
    let mut options = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                options.extend(option(&text[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    if is_quoted {
        let text = format!("{text}: a quotation mark is not closed");
        return Err(Error::trouble(text));
    }
    options.extend(option(&text[start..]));
    Ok(options)
}

fn option(text: &str) -> Option<MountOption> {
    (!text.is_empty()).then(|| MountOption::new(text))
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    // A backslash is for what would end the option, or the quotation; others are its own.
    let value = inner.unwrap_or(value);
    value.replace("\\,", ",").replace("\\\"", "\"")
}

/// The same of what the kernel shows of a filesystem in /proc/self/mountinfo, where the filesystem
/// has escaped what would end an option.
pub fn parse_shown(text: &str) -> Result<Vec<MountOption>> {
    // A backslash begins an escape there.
    let mut options = parse(&text.replace('\\', "\\\\"))?;
    for option in &mut options {
        option.name = unescaped(&option.name.replace("\\\\", "\\"));
        let value = option.value.take();
        option.value = value.map(|value| unescaped(&value.replace("\\\\", "\\")));
    }
    Ok(options)
}

/// Text of /proc/self/mountinfo, in which a byte may be `\` and three octal digits.
pub fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let is_octal = |digits: &&[u8]| digits.iter().all(|c| matches!(c, b'0'..=b'7'));
        let digits = behind.get(..3).filter(|_| first == b'\\');
        let digits = digits.filter(is_octal);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &behind[3..];
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

const NONE: MountAttrFlags = MountAttrFlags::empty();
const ATIME: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;

/// Options of a mount: name, attributes that it sets and that it clears (MOUNT_ATTR_*
/// of include/uapi/linux/mount.h). `rw` is not here: it is the filesystem's to ignore.
const OF_MOUNTS: &[(&str, MountAttrFlags, MountAttrFlags)] = &[
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

/// Options that mount(8) and init interpret (mount(8), fstab(5)); `x-` and the like aside.
const FOR_OTHERS: &[&str] = &[
    "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "async",
    "loud", "silent", "comment", "helper", "uhelper",
];

/// The names of the attributes that are set.
pub(crate) fn names(attributes: MountAttrFlags) -> impl Iterator<Item = &'static str> {
    let is_set = move |set: MountAttrFlags| !set.is_empty() && attributes.contains(set);
    let set = OF_MOUNTS.iter().filter(move |(_, set, _)| is_set(*set));
    set.map(|(name, ..)| *name)
}

impl MountOption {
    /// The option that `text` is.
    pub(crate) fn new(text: &str) -> Self {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (text, None),
        };
        let name = name.to_owned();
        MountOption { name, value }
    }

    /// What it sets and clears of a mount, if it is an option of mounts.
    pub(crate) fn of_mount(&self) -> Option<(MountAttrFlags, MountAttrFlags)> {
        let found = OF_MOUNTS.iter().find(|(name, ..)| *name == self.name)?;
        self.value.is_none().then_some((found.1, found.2))
    }

    /// Whether it is for mount(8), init, and others that read fstab.
    pub(crate) fn is_for_others(&self) -> bool {
        let is_theirs = |prefix| self.name.starts_with(prefix);
        FOR_OTHERS.contains(&&*self.name) || is_theirs("x-") || is_theirs("X-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(options: Vec<MountOption>) -> Vec<(String, Option<String>)> {
        options.into_iter().map(|o| (o.name, o.value)).collect()
    }

    fn of(items: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        let own = |v: &str| v.to_owned();
        items.iter().map(|(n, v)| (own(n), v.map(own))).collect()
    }

    #[test]
    fn commas_in_quotes_are_part_of_a_value() {
        for (text, wanted) in [
            ("", &[][..]),
            (",,ro,,", &[("ro", None)]),
            (
                "context=\"u:r:t:s0:c0,c1\",nosuid",
                &[("context", Some("u:r:t:s0:c0,c1")), ("nosuid", None)],
            ),
            (
                "oci_root_dir=/a\\,b,flag",
                &[("oci_root_dir", Some("/a,b")), ("flag", None)],
            ),
            (
                "oci_root_dir=\"/a=b,c\"",
                &[("oci_root_dir", Some("/a=b,c"))],
            ),
            // Quotation marks and backslashes of the value itself.
            ("a=/x\\\"y,b", &[("a", Some("/x\"y")), ("b", None)]),
            ("a=x\"1,2\"y", &[("a", Some("x\"1,2\"y"))]),
            ("a=/x\\y", &[("a", Some("/x\\y"))]),
            ("a=,b=\"\"", &[("a", Some("")), ("b", Some(""))]),
            (
                "a=\u{e4},\u{f6}",
                &[("a", Some("\u{e4}")), ("\u{f6}", None)],
            ),
        ] {
            assert_eq!(found(parse(text).unwrap()), of(wanted), "{text}");
        }
        for text in ["a=\"", "a=\"b,c", "a=\"b\\\"", "\""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_kernel_shows_is_read() {
        let shown = "ro,context=\"u:r:t:s0:c0,c1\",oci_root_dir=/a\\054b\\134\\040c,x=\\0";
        let wanted = [
            ("ro", None),
            ("context", Some("u:r:t:s0:c0,c1")),
            ("oci_root_dir", Some("/a,b\\ c")),
            ("x", Some("\\0")),
        ];
        assert_eq!(found(parse_shown(shown).unwrap()), of(&wanted));
        assert_eq!(unescaped("\\303\\244\\777\\+12"), "\u{e4}\\777\\+12");
    }
}
