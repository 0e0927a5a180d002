// SPDX-License-Identifier: Apache-2.0
//! What systemd is told, where it has said how (sd_notify(3)), and what it passes (sd_listen_fds(3)).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::net::{
    sendmsg_addr, socket_with, AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};

/// Descriptors that are passed, at most.
const MOST: usize = 64;

/// What became of a descriptor that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The manager was told of it.
    Sent,
    /// There is none, or it cannot be told.
    Not,
}

/// Whether there is somebody who can be told something.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Says that all is ready. Where nobody listens that does no harm.
pub fn ready() {
    // It hears in order, so that it has what is to be kept by then.
    send("READY=1", None);
}

/// Lets the manager keep a descriptor until the service is stopped, whatever becomes of this process.
pub fn keep(name: &str, fd: BorrowedFd<'_>) -> Kept {
    let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
    match send(&text, Some(fd)) {
        Some(()) => Kept::Sent,
        None => Kept::Not,
    }
}

fn send(text: &str, fd: Option<BorrowedFd<'_>>) -> Option<()> {
    let path = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(path.as_bytes()),
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        more.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg_addr(
        &socket,
        &address.ok()?,
        &text,
        &mut more,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
    .ok()
}

/// The names of the descriptors that were passed to this process, in their order.
pub fn passed() -> Vec<String> {
    let var = |name: &str| std::env::var(name).ok();
    let is_ours = var("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    let count = var("LISTEN_FDS").and_then(|count| count.parse().ok());
    let count: usize = count.filter(|_| is_ours).unwrap_or(0);
    let names = var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned);
    let unknown = std::iter::repeat_with(String::new);
    names.chain(unknown).take(count.min(MOST)).collect()
}
