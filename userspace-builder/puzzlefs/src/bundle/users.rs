// SPDX-License-Identifier: Apache-2.0
//! Who a user is, by an image's own /etc/passwd and /etc/group.
//!
//! As the OCI image-spec has it (config.md, "User"), and as Docker and podman do it: a name is looked for
//! before a number, the first line counts, and whoever is named with a group has no other groups.

use anyhow::{ensure, Context, Result};

use crate::base::error::Error;
use crate::base::text;

/// As many groups as a process can have (NGROUPS_MAX of Linux).
const MAX_GROUPS: usize = 65536;

/// Who the first process of a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// Further groups, without `gid`, in ascending order.
    pub groups: Vec<u32>,
    /// Its home directory, if the image says one: an absolute path.
    pub home: Option<String>,
}

/// The user that `wanted` names: `USER` or `USER:GROUP`, each by name or by number; root if it is empty.
/// `passwd` and `group` are the files, empty if there are none.
///
/// # Errors
///
/// A name that no line has.
pub fn find(wanted: &str, passwd: &[u8], group: &[u8]) -> Result<User> {
    let (name, named_group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = lines(passwd, 7).find(|fields| is_meant(name, fields));
    let mut user = match &entry {
        Some(fields) => User {
            uid: number(fields[2]).with_context(|| malformed("passwd", fields[0]))?,
            gid: number(fields[3]).with_context(|| malformed("passwd", fields[0]))?,
            groups: Vec::new(),
            home: home(fields[5]),
        },
        None => User {
            uid: number(name.as_bytes()).with_context(|| unknown("passwd", name))?,
            ..User::default()
        },
    };
    if let Some(wanted) = named_group {
        let fields = lines(group, 4).find(|fields| is_meant(wanted, fields));
        user.gid = match fields {
            Some(fields) => number(fields[2]).with_context(|| malformed("group", fields[0]))?,
            None => number(wanted.as_bytes()).with_context(|| unknown("group", wanted))?,
        };
    } else if let Some(fields) = entry {
        user.groups = groups_of(fields[0], group);
        user.groups.retain(|gid| *gid != user.gid);
        ensure!(
            user.groups.len() < MAX_GROUPS,
            "/etc/group of the image has {} groups of {}: a process can have {MAX_GROUPS}",
            user.groups.len(),
            text::quoted(fields[0])
        );
    }
    Ok(user)
}

/// The groups that list `user` as a member, each once.
fn groups_of(user: &[u8], group: &[u8]) -> Vec<u32> {
    let of_user =
        lines(group, 4).filter(|fields| fields[3].split(|b| *b == b',').any(|m| m == user));
    let mut groups: Vec<u32> = of_user.filter_map(|fields| number(fields[2])).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The fields of lines that have so many, or more.
fn lines(file: &[u8], count: usize) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = file.split(|b| *b == b'\n');
    let fields = lines.map(|line| line.splitn(16, |b| *b == b':').collect::<Vec<_>>());
    fields.filter(move |fields| fields.len() >= count && !fields[0].is_empty())
}

/// Whether a line is of that name or number.
fn is_meant(wanted: &str, fields: &[&[u8]]) -> bool {
    let wanted_number = number(wanted.as_bytes());
    fields[0] == wanted.as_bytes() || wanted_number.is_some() && number(fields[2]) == wanted_number
}

/// Digits and nothing else; the largest number is nobody's (it is -1 in calls).
fn number(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn home(field: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(field).ok()?;
    let is_path = text.starts_with('/') && !text.contains('\0');
    is_path.then(|| text.to_owned())
}

fn unknown(file: &str, name: &str) -> Error {
    let name = text::quoted(name.as_bytes());
    Error::not_found(format!("/etc/{file} of the image has no {name}"))
}

fn malformed(file: &str, name: &[u8]) -> Error {
    let name = text::quoted(name);
    Error::refused(format!(
        "/etc/{file} of the image: the line of {name} has a wrong number"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        #comment\n\
        short:x:7\n\
        web:x:33:33:www:/var/www:/bin/sh\n\
        77:x:88:89::relative:\n\
        bad:x:4294967295:0::/:\n\
        web:x:34:34::/second:/bin/sh\n\
        \xff:x:50:50::/\xff:\n\
        last:x:99:98::/l:";
    const GROUP: &[u8] = b"root:x:0:\n\
        adm:x:4:web,other\n\
        cert:x:105:last,web\n\
        web:x:33:web\n\
        cert2:x:105:web\n\
        bad:x:-1:web\n\
        33:x:1033:";

    #[test]
    fn users_are_found() {
        let user = |uid, gid, groups: &[u32], home: Option<&str>| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.map(str::to_owned),
        };
        let root = user(0, 0, &[], Some("/root"));
        for (wanted, is) in [
            ("", root.clone()),
            ("root", root.clone()),
            (":", root),
            (":4", user(0, 4, &[], Some("/root"))),
            ("web", user(33, 33, &[4, 105], Some("/var/www"))),
            ("33", user(33, 33, &[4, 105], Some("/var/www"))),
            ("34", user(34, 34, &[4, 33, 105], Some("/second"))),
            ("web:adm", user(33, 4, &[], Some("/var/www"))),
            ("web:4", user(33, 4, &[], Some("/var/www"))),
            ("web:4711", user(33, 4711, &[], Some("/var/www"))),
            // A name before a number: the group that is called 33 comes after the one that has it.
            ("web:33", user(33, 33, &[], Some("/var/www"))),
            ("77", user(88, 89, &[], None)),
            ("4000000000", user(4_000_000_000, 0, &[], None)),
            ("last", user(99, 98, &[105], Some("/l"))),
        ] {
            assert_eq!(find(wanted, PASSWD, GROUP).unwrap(), is, "{wanted}");
        }
        assert_eq!(find("", b"", b"").unwrap(), User::default());
        for bad in [
            "nobody",
            "web:nobody",
            "bad",
            "-1",
            "+5",
            " 5",
            "4294967295",
            "short",
            "#comment",
            "5\0",
            "web:-1",
        ] {
            assert!(find(bad, PASSWD, GROUP).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_have_an_end() {
        let lines: Vec<String> = (1..70_000).map(|gid| format!("g:x:{gid}:web")).collect();
        let group = lines.join("\n");
        assert!(find("web", PASSWD, group.as_bytes()).is_err());
        assert!(find("33:33", PASSWD, group.as_bytes()).is_ok());
    }
}
