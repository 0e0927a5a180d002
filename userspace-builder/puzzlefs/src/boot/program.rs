// SPDX-License-Identifier: Apache-2.0
//! The end of a start: this process becomes the program of the container, as the user that the image names.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread;

use super::places::OURS;
use super::state::State;
use crate::base::error::{Error, Result, Where};
use crate::base::text;
use crate::bundle::users::{self, User};

/// Bytes of /etc/passwd and of /etc/group, at most: thousands of users.
const MAX_USERS: u64 = 4 << 20;
/// Names another user than the image does.
const USER: &str = "PUZZLEFS_USER";
/// What runtimes say of the home of root, or of a user whom they do not know: crun says nothing.
const UNKNOWN_HOMES: [&str; 3] = ["/root", "/", ""];

/// Becomes `arguments` in `directory`, without the variables that are for this program.
///
/// # Errors
///
/// There is no such user or program, or it may not be run.
pub(super) fn run(state: &State, directory: &Path, arguments: Vec<OsString>) -> Result<Infallible> {
    // Where it is now: what was there when this began may have been replaced.
    std::env::set_current_dir(directory)
        .with_context(|| text::path(directory))
        .at(directory)?;
    let wanted = match std::env::var_os(USER) {
        Some(name) => name.into_string().map_err(|name| {
            let name = text::quoted(name.as_encoded_bytes());
            Error::not_found(format!("/etc/passwd of the image has no {name}"))
        })?,
        None => state.user.clone(),
    };
    let user = users::find(&wanted, &read("/etc/passwd")?, &read("/etc/group")?)?;
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let mut command = Command::new(&name);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(OURS.as_bytes()) {
            command.env_remove(name);
        }
    }
    let now = std::env::var_os("HOME");
    if let Some(home) = home(state, &user, now.as_deref()) {
        command.env("HOME", home);
    }
    become_user(&user)?;
    let error = command.exec();
    Err(error)
        .with_context(|| format!("running {}", text::quoted(name.as_encoded_bytes())))
        .at(Path::new(&name))
}

/// Where the user's home is, if that is to be said. A runtime that knows nobody says that it is root's.
fn home<'a>(state: &State, user: &'a User, now: Option<&OsStr>) -> Option<&'a str> {
    let is_said = now.is_some_and(|now| !UNKNOWN_HOMES.iter().any(|home| now == *home));
    match state.has_home || is_said {
        true => None,
        false => Some(user.home.as_deref().unwrap_or("/")),
    }
}

/// Takes the user's numbers; those of groups that the runtime has added stay.
fn become_user(user: &User) -> Result<()> {
    let mut groups = rustix::process::getgroups()?;
    groups.extend(user.groups.iter().map(|gid| Gid::from_raw(*gid)));
    groups.sort_unstable_by_key(|gid| gid.as_raw());
    groups.dedup();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = || -> Result<(), Errno> {
        match thread::set_thread_groups(&groups) {
            // Who may not may be who it is to be already.
            Err(Errno::PERM) if user.groups.is_empty() => {}
            done => done?,
        }
        thread::set_thread_res_gid(gid, gid, gid)?;
        thread::set_thread_res_uid(uid, uid, uid)
    };
    become_it()
        .with_context(|| format!("becoming the user {}:{}", user.uid, user.gid))
        .map_err(Error::from)
}

/// A file of the image; nothing if there is none.
fn read(path: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_USERS).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read
            .context(path.to_owned())
            .at(Path::new(path))
            .map(|_| text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_said_where_nobody_has_said_one() {
        let digest = puzzlefs_format::Digest::from_bytes([7; 32]);
        let mut state = State {
            manifest: digest,
            source: format!("docker://h.example/a@sha256:{digest}")
                .parse()
                .unwrap(),
            plain_http: false,
            user: String::new(),
            has_home: false,
        };
        let user = User {
            home: Some("/var/www".into()),
            ..User::default()
        };
        let of = |state: &State, now: Option<&str>| {
            home(state, &user, now.map(OsStr::new)).map(str::to_owned)
        };
        assert_eq!(of(&state, Some("/root")).as_deref(), Some("/var/www"));
        assert_eq!(of(&state, None).as_deref(), Some("/var/www"));
        assert_eq!(of(&state, Some("")).as_deref(), Some("/var/www"));
        assert_eq!(of(&state, Some("/mine")), None);
        state.has_home = true;
        assert_eq!(of(&state, Some("/root")), None);
        assert_eq!(home(&state, &User::default(), None), None);
    }
}
