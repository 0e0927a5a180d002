// SPDX-License-Identifier: Apache-2.0
//! What the program of a boot image does: it gets the root filesystem, and becomes what the image is for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::helper::{Helper, Started};
use super::places::{DONE, STATE};
use super::root::Tried;
use super::state::{self, State};
use super::{fetch, program, root};
use crate::base::error::{Error, Result, Where};
use crate::base::progress::Progress;
use crate::base::text;
use crate::fuse;

/// Says how the root filesystem is to come: in one of these ways, and by no other.
const WAY: &str = "PUZZLEFS_WAY";
const FUSE: &str = "fuse";
const EXTRACT: &str = "extract";

/// Starts `arguments`, the program of the container and what it is given. Says to `log` what is wrong with the image later
/// on. Returns only if that cannot be, or in a process beside this one, which has done all that it was to do.
///
/// # Errors
///
/// Names what is missing: rights, room on the disk, an answer of the registry. A container that is started again goes on
/// with what has come until then.
pub fn start(arguments: Vec<OsString>, progress: &dyn Progress, log: fn(&str)) -> Result<()> {
    let directory = std::env::current_dir().context("the working directory")?;
    let state = read()?;
    if arguments.first().is_none_or(|name| name.is_empty()) {
        let text = "the image does not say what to run: name a command";
        return Err(Error::refused(text));
    }
    if !rustix::process::geteuid().is_root() {
        let text = "the program of a boot image is started as root of the container, and becomes the user that the image \
                    names; PUZZLEFS_USER names another one";
        return Err(Error::refused(text));
    }
    let manifest = format!("sha256:{}\n", state.manifest);
    let is_done = is_done(&manifest)?;
    let by_fuse = match is_done {
        true => Fuse::No,
        false => by_fuse(&state, progress, log)?,
    };
    if let Fuse::Ended = by_fuse {
        return Ok(());
    }
    if let (false, Fuse::No) = (is_done, by_fuse) {
        fetch::extract(&state, progress)?;
        let done = Path::new(DONE);
        let written = File::create(done).and_then(|mut file| {
            file.write_all(manifest.as_bytes())?;
            file.sync_all()
        });
        written.context(DONE).at(done)?;
    }
    match program::run(&state, &directory, arguments)? {}
}

/// Whether the image is served by FUSE.
enum Fuse {
    Yes,
    No,
    /// This was a process beside the first one.
    Ended,
}

/// Has the image served by FUSE, and makes it the root, if that can be.
fn by_fuse(state: &State, progress: &dyn Progress, log: fn(&str)) -> Result<Fuse> {
    let wanted = std::env::var(WAY).unwrap_or_default();
    match &*wanted {
        "" | FUSE => {}
        EXTRACT => return Ok(Fuse::No),
        other => {
            let text = format!(
                "{WAY}={}: expected {FUSE} or {EXTRACT}",
                text::quoted(other.as_bytes())
            );
            return Err(Error::refused(text));
        }
    }
    let no = |why: String| match wanted == FUSE {
        true => Err(Error::refused(format!(
            "the image cannot be served by FUSE: {why}"
        ))),
        false => {
            progress.note(&format!("not by FUSE: {why}"));
            Ok(Fuse::No)
        }
    };
    match root::try_out()? {
        Tried::Can => {}
        Tried::Cannot(why) => return no(why),
        Tried::Ended => return Ok(Fuse::Ended),
    }
    let bounds = root::Bounds::now();
    let mut helper = match Helper::start(state, progress, log)? {
        Started::Ready(helper) => helper,
        Started::Refused(why) => return no(why),
        Started::Ended => return Ok(Fuse::Ended),
    };
    puzzlefs_unnoticed::unshare().context("a user namespace")?;
    helper.map()?;
    root::private()?;
    let (device, image) = fuse::connected(&state.source.to_string())?;
    helper.give(device)?;
    let hidden = PathBuf::from(format!("/proc/{}", helper.id()));
    root::enter(&image, &[hidden])?;
    bounds.restore()?;
    Ok(Fuse::Yes)
}

fn read() -> Result<State> {
    let path = Path::new(STATE);
    let mut text = Vec::new();
    let file = File::open(path).context(STATE).at(path)?;
    let read = file.take(state::MAX).read_to_end(&mut text);
    read.context(STATE).at(path)?;
    State::parse(&text).at(path)
}

/// Whether an earlier start has come to its end.
fn is_done(manifest: &str) -> Result<bool> {
    match std::fs::read(DONE) {
        Ok(text) => Ok(text == manifest.as_bytes()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(DONE).at(Path::new(DONE)),
    }
}
