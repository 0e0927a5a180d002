// SPDX-License-Identifier: Apache-2.0
//! What the program of a boot image does: it gets the root filesystem, and becomes what the image is for.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::helper::Helper;
use super::places::{DONE, STATE};
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

/// Starts `arguments`, the program of the container and what it is given. Returns only if that cannot be.
///
/// # Errors
///
/// Names what is missing: rights, room on the disk, an answer of the registry. A container that is started again goes on
/// with what has come until then.
pub fn start(arguments: Vec<OsString>, progress: &dyn Progress) -> Result<Infallible> {
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
    if !is_done && by_fuse(&state, progress)? {
        return program::run(&state, &directory, arguments);
    }
    if !is_done {
        fetch::extract(&state, progress)?;
        let done = Path::new(DONE);
        let written = File::create(done).and_then(|mut file| {
            file.write_all(manifest.as_bytes())?;
            file.sync_all()
        });
        written.context(DONE).at(done)?;
    }
    program::run(&state, &directory, arguments)
}

/// Has the image served by FUSE, and makes it the root; whether that can be.
fn by_fuse(state: &State, progress: &dyn Progress) -> Result<bool> {
    let wanted = std::env::var(WAY).unwrap_or_default();
    match &*wanted {
        "" | FUSE => {}
        EXTRACT => return Ok(false),
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
            Ok(false)
        }
    };
    if let Some(why) = root::try_out()? {
        return no(why);
    }
    let bounds = root::Bounds::now();
    let mut helper = match Helper::start(state, progress)? {
        Ok(helper) => helper,
        Err(why) => return no(why),
    };
    puzzlefs_unnoticed::unshare().context("a user namespace")?;
    helper.map()?;
    root::private()?;
    let (device, image) = fuse::connected(&state.source.to_string())?;
    helper.give(device)?;
    let hidden = PathBuf::from(format!("/proc/{}", helper.id()));
    root::enter(&image, &[hidden])?;
    bounds.restore()?;
    Ok(true)
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
