// SPDX-License-Identifier: Apache-2.0
//! What systemd is told, where it has said how (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that all is ready. Where nobody listens that does no harm.
pub fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(b"READY=1", &address?)
    };
    let _ = send();
}
