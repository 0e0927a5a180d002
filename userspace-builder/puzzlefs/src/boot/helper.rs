// SPDX-License-Identifier: Apache-2.0
//! The process that serves the image by FUSE, beside the first one of the container, which becomes the application. It stays
//! in the namespaces of the container, in which the root is still that of the boot image; the application is in namespaces of
//! its own below. It is no child that the application is told of, its directory in /proc is hidden there, and by its numbers
//! nobody in there may signal it.
//!
//! What they say to each other: see [`Said`].

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use puzzlefs_unnoticed::Child;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::Uid;

use super::fetch;
use super::places::CACHE;
use super::state::State;
use crate::base::error::Error;
use crate::base::progress::Progress;
use crate::fuse::{self, Prepared};
use crate::image::Image;
use crate::layout::reference::{Name, Reference};
use crate::layout::Layout;
use crate::lazy::{self, OnFailure, Origins};
use crate::pull;
use crate::registry::Sources;
use crate::remote::Place;

/// Whose the helper is for those who would signal it: nobody's in a container.
const NOBODY: u32 = 65_533;
/// A chunk that nobody gives for so long is an error for who reads it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of what is said of an error.
const MAX_TEXT: u64 = 64 << 10;

/// What is said, a byte each; behind the last one comes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Said {
    /// By the helper: the image can be served.
    Ready = b'r',
    /// By the first process: it has a user namespace.
    Unshared = b'u',
    /// By the helper: the numbers of that namespace mean what they mean in the container.
    Mapped = b'm',
    /// By the first process, with a connection to the kernel.
    Device = b'd',
    /// By the helper: it cannot be done, for want of what only FUSE needs.
    Refused = b'x',
    /// By the helper: it cannot be done.
    Failed = b'f',
}

/// What came of having a helper.
pub(super) enum Started {
    /// It is there, and has prepared the image.
    Ready(Helper),
    /// It cannot serve the image at all: why.
    Refused(String),
    /// This process was the helper, and has nothing more to do.
    Ended,
}

/// The helper, as the first process has it.
pub(super) struct Helper {
    process: Child,
    stream: UnixStream,
}

impl Helper {
    /// Has a helper prepare the image, and waits until it has.
    ///
    /// # Errors
    ///
    /// The image cannot be had.
    pub(super) fn start(
        state: &State,
        progress: &dyn Progress,
        log: fn(&str),
    ) -> crate::Result<Started> {
        let (ours, theirs) = UnixStream::pair().context("a socket for the helper")?;
        let first = std::process::id();
        let Some(process) = puzzlefs_unnoticed::fork().context("a process for the helper")? else {
            drop(ours);
            serve(theirs, first, state, progress, log);
            return Ok(Started::Ended);
        };
        drop(theirs);
        let mut helper = Helper {
            process,
            stream: ours,
        };
        match helper.hear()? {
            Ok(Said::Ready) => Ok(Started::Ready(helper)),
            Ok(_) => Err(helper.strange()),
            Err(refused) => {
                helper.process.wait()?;
                Ok(Started::Refused(refused))
            }
        }
    }

    /// Its number.
    pub(super) fn id(&self) -> i32 {
        self.process.id().get()
    }

    /// Has the helper say what numbers mean in the user namespace that this process has now.
    pub(super) fn map(&mut self) -> crate::Result<()> {
        self.stream.write_all(&[Said::Unshared as u8])?;
        match self.hear()? {
            Ok(Said::Mapped) => Ok(()),
            Ok(_) => Err(self.strange()),
            Err(refused) => Err(Error::refused(refused)),
        }
    }

    /// Gives the helper the connection by which it serves.
    pub(super) fn give(&mut self, device: OwnedFd) -> crate::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut more = SendAncillaryBuffer::new(&mut space);
        let files = [device.as_fd()];
        let fits = more.push(SendAncillaryMessage::ScmRights(&files));
        let said = [Said::Device as u8];
        let sent = sendmsg(
            &self.stream,
            &[IoSlice::new(&said)],
            &mut more,
            SendFlags::empty(),
        );
        match (fits, sent) {
            (true, Ok(1)) => Ok(()),
            (_, Err(errno)) => Err(errno.into()),
            _ => Err(self.strange()),
        }
    }

    /// What the helper says; as an inner error what it has refused.
    fn hear(&mut self) -> crate::Result<Result<Said, String>> {
        let mut said = [0];
        match self.stream.read(&mut said)? {
            0 => return Err(self.strange()),
            _ if said[0] == Said::Ready as u8 => return Ok(Ok(Said::Ready)),
            _ if said[0] == Said::Mapped as u8 => return Ok(Ok(Said::Mapped)),
            _ => {}
        }
        let mut text = String::new();
        (&self.stream).take(MAX_TEXT).read_to_string(&mut text)?;
        match said[0] == Said::Refused as u8 {
            true => Ok(Err(text)),
            false => Err(Error::trouble(text)),
        }
    }

    fn strange(&self) -> Error {
        Error::trouble("the process that serves the image has ended")
    }
}

/// The helper's own life, which ends with the mount.
fn serve(
    mut stream: UnixStream,
    first: u32,
    state: &State,
    progress: &dyn Progress,
    log: fn(&str),
) {
    let result = prepare(state, progress, log).and_then(|prepared| {
        stream.write_all(&[Said::Ready as u8])?;
        hear(&stream, Said::Unshared)?;
        map(first)?;
        stream.write_all(&[Said::Mapped as u8])?;
        let device = receive(&stream)?;
        leave()?;
        Ok(prepared.serve(device)?)
    });
    if let Err(error) = result {
        let error = Error::from(error);
        let kind = match error {
            Error::Refused(_) => Said::Refused,
            _ => Said::Failed,
        };
        let text = [&[kind as u8], format!("{error:#}").as_bytes()].concat();
        // Nobody may be there any more to be told.
        let _ = stream.write_all(&text);
    }
}

/// Sees to it that the metadata are here, and opens the image. What is read of it will be fetched.
fn prepare(state: &State, progress: &dyn Progress, log: fn(&str)) -> Result<Prepared> {
    // What the terminal says to the application is not for the helper.
    rustix::process::setsid().context("a session for the helper")?;
    let layout = fetch::cache()?;
    let digest = state.manifest;
    let tag = Place::Docker(state.source.clone()).tag();
    let name = Name::Digest(digest);
    let is_here = layout.resolve(&name).is_ok() && Image::is_there(&layout, &digest)?;
    if !is_here {
        pull_lazily(&layout, state, &tag, progress)?;
    }
    let image = Reference {
        layout: CACHE.into(),
        name,
    };
    let fetching = lazy::Options {
        origins: origins(state),
        on_failure: OnFailure::Error(PATIENCE),
        fill: false,
        rate: None,
    };
    Ok(fuse::prepare(
        &image,
        Some(&state.source.to_string()),
        fetching,
        Box::new(log),
    )?)
}

fn pull_lazily(layout: &Layout, state: &State, tag: &str, progress: &dyn Progress) -> Result<()> {
    let sources = Sources::open(&state.source.repository, &fetch::options(state))?;
    let platform = crate::layout::platform::Platform::here();
    let found = pull::find(&sources, &state.source.name, &platform)?;
    let named = [state.source.to_string()];
    let report = found.pull_lazy(layout, tag, &named, origins(state), None, progress);
    let report = report.with_context(|| format!("fetching into {CACHE}"))?;
    progress.note(&format!(
        "the metadata are here, {} bytes in {} requests",
        report.bytes_fetched, report.requests
    ));
    Ok(())
}

/// The places that records name, as far as the program speaks with such.
fn origins(state: &State) -> Origins {
    let options = fetch::options(state);
    Origins::new(move |place| match place {
        Place::Docker(image) => Ok(Box::new(Sources::open(&image.repository, &options)?)),
        Place::Web(image) => Ok(Box::new(Sources::of_layout(image, &options)?)),
        other => Err(Error::refused(format!(
            "{other}: the program of a boot image asks registries and web servers only"
        ))),
    })
}

fn hear(mut stream: &UnixStream, what: Said) -> Result<()> {
    let mut said = [0];
    stream.read_exact(&mut said)?;
    ensure!(
        said[0] == what as u8,
        "the first process says something else"
    );
    Ok(())
}

/// Lets all numbers that this namespace knows mean the same in that of the process `first`.
fn map(first: u32) -> Result<()> {
    for name in ["uid_map", "gid_map"] {
        let own = format!("/proc/self/{name}");
        let text = std::fs::read_to_string(&own).context(own)?;
        let path = format!("/proc/{first}/{name}");
        std::fs::write(&path, same(&text)).context(path)?;
    }
    Ok(())
}

/// A map of the numbers that `map` has onto themselves (user_namespaces(7)).
fn same(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (inside, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    });
    lines.collect()
}

fn receive(stream: &UnixStream) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(stream, &mut [IoSliceMut::new(&mut said)], &mut more, flags)?;
    ensure!(
        said[0] == Said::Device as u8,
        "the first process says something else"
    );
    for message in more.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message {
            return files.next().context("no connection came");
        }
    }
    bail!("no connection came")
}

/// Leaves what it has of the application: its input and its output. Errors stay where the container's are.
fn leave() -> Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    std::env::set_current_dir("/")?;
    let (nobody, root) = (Uid::from_raw(NOBODY), Uid::ROOT);
    // Where that number means nothing, the helper can be signalled by root: it is no worse off for that than others.
    let _ = rustix::thread::set_thread_res_uid(nobody, root, nobody);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_themselves() {
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(same(rootless), "0 0 1\n1 1 65536\n");
        assert_eq!(same("0 0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(same("nonsense\n"), "");
    }
}
