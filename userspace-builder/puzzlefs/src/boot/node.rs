// SPDX-License-Identifier: Apache-2.0
//! The root filesystem as a mount by the kernel, which the node gives ([`crate::node`]) where the runtime has mounted its
//! socket into the container. No process serves it here.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};

use super::places::NODE;
use super::state::State;
use super::{helper, root};
use crate::node::{self, Asked};

/// Whether there is a socket.
pub(super) fn is_there() -> bool {
    Path::new(NODE).exists()
}

/// Has the node have the image.
pub(super) fn ask(state: &State) -> crate::Result<Asked> {
    node::ask(Path::new(NODE), &state.source)
}

/// Makes the image the root. False in a process beside the first one, which has done all that it was to do.
pub(super) fn enter(asked: Asked) -> Result<bool> {
    if !unshare()? {
        return Ok(false);
    }
    root::private()?;
    let own = File::open("/proc/self/ns/user").context("the user namespace")?;
    let image = asked.mount(own.as_fd())?;
    root::enter(&image, &[])?;
    Ok(true)
}

/// Takes namespaces in which all numbers mean what they mean in the container: a process that stays there says so.
fn unshare() -> Result<bool> {
    let (mut ours, mut theirs) = UnixStream::pair().context("a socket for the helper")?;
    let first = std::process::id();
    let Some(process) = puzzlefs_unnoticed::fork().context("a process for the helper")? else {
        drop(ours);
        let mut said = [0];
        let mapped = theirs.read_exact(&mut said).map_err(Into::into);
        let mapped = mapped.and_then(|()| helper::map(first));
        let text = mapped.err().map(|error| format!("{error:#}"));
        // Nobody may be there any more to be told.
        let _ = theirs.write_all(text.unwrap_or_default().as_bytes());
        return Ok(false);
    };
    drop(theirs);
    puzzlefs_unnoticed::unshare().context("a user namespace")?;
    ours.write_all(&[1])?;
    let mut why = String::new();
    ours.read_to_string(&mut why)?;
    process.wait()?;
    match why.is_empty() {
        true => Ok(true),
        false => Err(crate::Error::refused(why).into()),
    }
}
