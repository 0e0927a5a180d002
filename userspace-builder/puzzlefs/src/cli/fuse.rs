// SPDX-License-Identifier: Apache-2.0
//! puzzlefs mount --fuse: in the foreground, or in a process of its own in the background.
//!
//! That process is this command once more, with the same arguments. Its standard input is a pipe, over which it
//! says that the image is mounted; whoever waits for that at the other end ends then, or as that process
//! ends if it does before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use puzzlefs::fuse::faults::Log;
use puzzlefs::lazy::{self, OnFailure};
use puzzlefs::{fuse, Error};
use rustix::pipe::{pipe_with, PipeFlags};

use super::args::{Mount, What};
use super::failure::{Failure, Result};
use super::pull::origins;
use super::{elsewhere, out};

/// Set for the process in the background, to the manifest that was pulled for it, if one was.
const BACKGROUND: &str = "_PUZZLEFS_BACKGROUND";
/// What becomes of a read whose chunk nobody gives, where nobody can say it: as by default.
const DEFAULT: OnFailure = OnFailure::Error(Duration::from_secs(60));
/// A daemon's warning (syslog(3)).
const PRIORITY: &str = "<28>";

/// What is to be mounted, where and how.
pub struct Asked<'a> {
    /// What.
    pub image: &'a What,
    /// Where.
    pub target: &'a Path,
    /// Options, as mount(8) has them.
    pub options: &'a [String],
    /// Whether it is served here.
    pub foreground: bool,
    /// How what is not here is fetched.
    pub fetching: Option<&'a Mount>,
}

/// Mounts an image by FUSE, and serves it, here or in the background.
pub fn mount(asked: &Asked<'_>) -> Result<()> {
    let pulled = match std::env::var(BACKGROUND) {
        Ok(pulled) => {
            // Whatever happens to who started it: it goes on.
            rustix::process::setsid().map_err(Error::from)?;
            return serve(asked, &pulled, log(), || Ok(detach()?));
        }
        Err(_) => match (asked.image, asked.fetching) {
            (What::Here(_), _) => String::new(),
            (What::Elsewhere(place), how) => elsewhere::pull(place, how)?.to_string(),
        },
    };
    match asked.foreground {
        true => {
            let log: Log = Box::new(|line| out::error(&format!("puzzlefs: {line}")));
            serve(asked, &pulled, log, || Ok(()))
        }
        false => start(&pulled),
    }
}

/// Serves it. `pulled` is the manifest of an image from elsewhere, which is in the cache by now.
fn serve(
    asked: &Asked<'_>,
    pulled: &str,
    log: Log,
    mounted: impl FnOnce() -> puzzlefs::Result<()>,
) -> Result<()> {
    let (image, name) = match asked.image {
        What::Here(image) => (image.clone(), None),
        What::Elsewhere(place) => (elsewhere::pulled(pulled, asked.fetching)?, Some(place)),
    };
    let name = name.map(ToString::to_string);
    let how = asked.fetching;
    let options = how.map(|how| how.registry.options()).unwrap_or_default();
    let from = how.map_or(&[][..], |how| &how.fetching.from);
    let fetching = lazy::Options {
        origins: origins(options).after(from),
        on_failure: how.map_or(DEFAULT, |how| how.fetching.on_failure()),
        fill: how.is_some_and(|how| how.fill),
        rate: how.and_then(|how| how.fetching.rate),
    };
    let request = fuse::Request {
        image: &image,
        name: name.as_deref(),
        target: asked.target,
        options: asked.options,
        fetching,
        log,
    };
    Ok(fuse::serve(request, mounted)?)
}

/// Has this command run in the background, which is told what was `pulled`, and waits until it has mounted the image.
fn start(pulled: &str) -> Result<()> {
    let (mut ours, theirs) = pipe_with(PipeFlags::CLOEXEC)
        .map(|(ours, theirs)| (File::from(ours), theirs))
        .map_err(Error::from)?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, arguments.next().unwrap_or_default());
    command.args(arguments).env(BACKGROUND, pulled);
    let spawned = command.stdin(Stdio::from(theirs)).spawn();
    let mut child = spawned.map_err(Error::from)?;
    drop(command);
    let said = ours.read(&mut [0]).map_err(Error::from)?;
    if said == 1 {
        return Ok(());
    }
    // It has said why.
    let status = child.wait().map_err(Error::from)?;
    Err(Failure::Ended(match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, signal) => u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(1),
    }))
}

/// Says that the image is mounted, and leaves directory and standard files of who started this.
fn detach() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let said = rustix::io::dup(rustix::stdio::stdin())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    File::from(said).write_all(b"\n")
}

/// The system's log, or the kernel's where there is none.
fn log() -> Log {
    let id = process::id();
    Box::new(move |line| {
        let line = puzzlefs::base::text::line(line);
        let text = format!("{PRIORITY}puzzlefs[{id}]: {line}");
        let socket = UnixDatagram::unbound();
        let sent = socket.and_then(|socket| socket.send_to(text.as_bytes(), "/dev/log"));
        if sent.is_err() {
            // Without either nobody is there to be told.
            let kernel = OpenOptions::new().write(true).open("/dev/kmsg");
            let _ = kernel.and_then(|mut kernel| kernel.write_all(text.as_bytes()));
        }
    })
}
