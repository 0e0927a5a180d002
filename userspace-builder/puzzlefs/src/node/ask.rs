// SPDX-License-Identifier: Apache-2.0
//! The node is asked for a mount.

use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::wire::{self, Said};
use crate::base::error::{Error, Result};
use crate::base::{passing, text};
use crate::registry::Reference;

/// So long the node may take to have the image. If it takes longer, the container goes another way.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A node that has the image.
pub struct Asked(UnixStream);

/// Asks at the socket `path` for the image that `image` names by its digest.
///
/// # Errors
///
/// Nobody listens there; the node does not have the image, and may not pull it, or cannot.
pub fn ask(path: &Path, image: &Reference) -> Result<Asked> {
    let mut stream = UnixStream::connect(path).with_context(|| text::path(path))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(wire::request(image).as_bytes())?;
    let mut said = [0];
    stream.read_exact(&mut said).context("the node")?;
    match said[0] == Said::Ready as u8 {
        true => Ok(Asked(stream)),
        false => Err(refused(&stream, said[0])),
    }
}

impl Asked {
    /// A mount of the image that is nowhere yet, and ends with the descriptor, or with where it is moved to. Owners of files
    /// are those of the same numbers in `user_namespace`.
    ///
    /// # Errors
    ///
    /// What the node says.
    pub fn mount(self, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
        passing::pass(&self.0, Said::Namespace as u8, user_namespace)?;
        match passing::taken(&self.0).context("the node")? {
            (said, Some(mount)) if said == Said::Mount as u8 => Ok(mount),
            (said, _) => Err(refused(&self.0, said)),
        }
    }
}

/// What the node says, which has said `begun`.
fn refused(stream: &UnixStream, begun: u8) -> Error {
    if begun != Said::Refused as u8 {
        return Error::trouble("what listens there is no puzzlefs node");
    }
    let mut said = String::new();
    // Who says nothing has said enough.
    let _ = stream.take(wire::MAX_TEXT).read_to_string(&mut said);
    Error::refused(format!("the node says: {}", text::line(&said)))
}
