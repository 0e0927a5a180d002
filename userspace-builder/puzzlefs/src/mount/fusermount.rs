// SPDX-License-Identifier: Apache-2.0
//! fusermount3 (of the package fuse3), which mounts and unmounts FUSE for users without rights.

use std::ffi::OsStr;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::{
    recvmsg, socketpair, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags,
    SocketFlags, SocketType,
};

use crate::base::error::Error;
use crate::base::text;

const PROGRAM: &str = "fusermount3";
/// Where it looks for the number of the socket that it is to send the connection over.
const SOCKET: &str = "_FUSE_COMMFD";

/// A value of an option, in which a comma ends nothing.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

/// Mounts at `target`, with the options of FUSE that root need not give. Returns the connection to the
/// kernel.
///
/// # Errors
///
/// There is no such program, or what it says.
pub(crate) fn mount(target: &Path, options: &str) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (ours, theirs) = pair.context("socketpair")?;
    let mut command = Command::new(PROGRAM);
    command.args(["-o", options, "--"]).arg(target);
    // Its standard input is inherited by it and by nobody else.
    command.env(SOCKET, "0").stdin(Stdio::from(theirs));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(missing)?;
    // Ours of the other end: when the program ends without a word, so does the socket.
    drop(command);
    let device = receive(&ours);
    drop(ours);
    let output = child.wait_with_output().context(PROGRAM)?;
    match device? {
        Some(device) if output.status.success() => Ok(device),
        _ => Err(said(&output.stderr)),
    }
}

/// Unmounts what the user has mounted at `target`; `lazy` as umount(8) -l.
pub(crate) fn unmount(target: &Path, lazy: bool) -> Result<()> {
    let mut command = Command::new(PROGRAM);
    command.arg("-u").args(lazy.then_some("-z"));
    command.args([OsStr::new("--"), target.as_os_str()]);
    let output = command.stdin(Stdio::null()).output().map_err(missing)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(said(&output.stderr)),
    }
}

fn missing(error: std::io::Error) -> anyhow::Error {
    let text = format!("{PROGRAM} (of the package fuse3), which mounts for users: {error}");
    Error::refused(text).into()
}

fn said(stderr: &[u8]) -> anyhow::Error {
    let text = String::from_utf8_lossy(stderr);
    Error::refused(text::line(text.trim_end())).into()
}

/// The descriptor that comes over `socket`; none if it ends before.
fn receive(socket: &OwnedFd) -> Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = loop {
        let mut buffers = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received.context("recvmsg")?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let device = messages.flatten().next();
    Ok(device)
}
