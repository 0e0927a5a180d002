// SPDX-License-Identifier: Apache-2.0
//! A layout of another machine, as a place that images come from: `puzzlefs serve` there, by the system's ssh,
//! which knows hosts, keys, agents and jump hosts as the user has set them up (ssh_config(5)).
//!
//! - this file: what is asked for; `session`: asking for it; `patient`: not for ever; [`Reference`]: where.

mod patient;
mod reference;
mod session;

use std::io::{self, Read};
use std::ops::Range;

use puzzlefs_format::{limits, Digest};

use super::seam::{Document, Part, Remote};
use super::wire::Request;
use crate::base::digest::sha256;
use crate::base::error::{Error, Result};
use crate::layout::reference::Name;
use crate::registry::retry::Retry;
use session::Answer;

pub use reference::Reference;
pub use session::Ssh;

/// Bytes of a blob, and further where a session was cut.
struct Body<'a> {
    ssh: &'a Ssh,
    digest: Digest,
    size: u64,
    /// The next byte.
    at: u64,
    /// Behind the last one.
    end: u64,
    /// `None` at the end.
    answer: Option<Answer>,
    retry: Retry,
}

impl Body<'_> {
    fn begin(&mut self) -> Result<()> {
        let request = Request::Blob {
            digest: self.digest,
            size: self.size,
            range: self.at..self.end,
        };
        self.answer = Some(self.ssh.ask(&request).map_err(|e| e.of(&self.digest))?);
        self.finish();
        Ok(())
    }

    /// Lets the session be used again if its answer is through.
    fn finish(&mut self) {
        self.answer = self.answer.take().and_then(|answer| self.ssh.done(answer));
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(answer) = &mut self.answer else {
                return Ok(0);
            };
            match answer.read(buffer) {
                Ok(count) => {
                    self.at = self.at.saturating_add(count as u64);
                    self.finish();
                    return Ok(count);
                }
                // What the layout says of its blob is said once.
                Err(e) if e.get_ref().is_some_and(|e| e.is::<Error>()) => return Err(e),
                Err(e) => {
                    self.answer = None;
                    let why = self.ssh.cut(&format!("cut at byte {}: {e}", self.at));
                    let again = self.retry.wait(None, why).and_then(|()| self.begin());
                    again.map_err(io::Error::other)?;
                }
            }
        }
    }
}

impl Ssh {
    fn body(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Body<'_>> {
        let mut body = Body {
            ssh: self,
            digest: *digest,
            size,
            at: range.start.min(size),
            end: range.end.min(size),
            answer: None,
            retry: Retry::new(self.retries),
        };
        body.begin()?;
        Ok(body)
    }
}

impl Remote for Ssh {
    fn name(&self) -> String {
        self.reference.layout()
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        let mut retry = Retry::new(self.retries);
        loop {
            let mut answer = self.ask(&Request::Manifest(name.clone()))?;
            let limit = limits::MAX_MANIFEST_BYTES as u64;
            let mut text = Vec::new();
            let read = answer.by_ref().take(limit + 1).read_to_end(&mut text);
            match read {
                Ok(_) if text.len() as u64 > limit => {
                    let context = format!("{}: the manifest {name}", self.reference.layout());
                    let text = format!("{context} has more than the {limit} bytes that it may");
                    return Err(Error::damaged(text));
                }
                Ok(_) => {
                    let media_type = std::mem::take(&mut answer.media_type);
                    self.done(answer);
                    return Ok(Document {
                        digest: sha256(&[&text]),
                        media_type,
                        text,
                    });
                }
                Err(e) => retry.wait(None, self.cut(&e.to_string()))?,
            }
        }
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.body(digest, size, 0..size)?))
    }

    fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Part<'_>> {
        Ok(Part::Range(Box::new(self.body(digest, size, range)?)))
    }
}
