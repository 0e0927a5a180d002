// SPDX-License-Identifier: Apache-2.0
//! Requests to `puzzlefs serve` of another machine, over sessions of ssh, each of which has one at a time.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::patient::Patient;
use super::reference::Reference;
use crate::base::error::{Error, Result};
use crate::base::text;
use crate::registry::retry::Retry;
use crate::remote::wire::{self, Request};

/// What a shell says of a program that is not there.
const NO_PROGRAM: i32 = 127;
/// Until a session says its first word: somebody may have to find a password.
const BEGIN: Duration = Duration::from_secs(600);
/// Until the next bytes come, as of registries.
const STALL: Duration = Duration::from_secs(120);

/// A layout of another machine.
pub struct Ssh {
    pub(super) reference: Reference,
    pub(super) retries: u32,
    /// Sessions that wait for a request: who asks while none does begins one more.
    idle: Mutex<Vec<Session>>,
    /// A session has begun once.
    is_met: AtomicBool,
}

/// A server that waits for requests, which ends with it.
struct Session {
    child: Child,
    to: ChildStdin,
    from: BufReader<Patient<ChildStdout>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a request.
pub(super) struct Answer {
    session: Session,
    /// Of a manifest, as it is said to be.
    pub media_type: String,
    /// Bytes of the present frame that are still to come; 0 at the end.
    left: usize,
}

impl Ssh {
    /// The layout of an image. Nothing is run yet.
    pub fn new(reference: &Reference, retries: u32) -> Self {
        Ssh {
            reference: reference.clone(),
            retries,
            idle: Mutex::default(),
            is_met: AtomicBool::new(false),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        // It is whole between any two statements.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session. Whether another try may go well is the second part of what went wrong.
    fn start(&self) -> Result<Session, (Error, bool)> {
        let lasting = |error: Error| (error, false);
        let mut command = self.reference.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let said = |e| Error::unreached(format!("running {program}: {e}"));
        let mut child = command.spawn().map_err(|e| lasting(said(e)))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(lasting(Error::trouble("a process has no pipes")));
        };
        let from = BufReader::new(Patient::new(from, BEGIN));
        let mut session = Session { child, to, from };
        let host = &self.reference.host();
        let why = match wire::read_line(&mut session.from) {
            Ok(Some(line)) if line == wire::HELLO => {
                self.is_met.store(true, Ordering::Relaxed);
                session.from.get_mut().patience = STALL;
                return Ok(session);
            }
            Ok(Some(line)) => {
                let line = text::quoted(line.as_bytes());
                let text = format!(
                    "{host} says {line:?} in place of {:?}: has it another puzzlefs, or does its shell print \
                     something when it starts?",
                    wire::HELLO
                );
                return Err(lasting(Error::unreached(text)));
            }
            Ok(None) => String::new(),
            Err(e) => {
                // It may go on to say nothing.
                let _ = session.child.kill();
                format!(": {e}")
            }
        };
        let status = session.child.wait().ok().and_then(|status| status.code());
        let text = match status {
            Some(NO_PROGRAM) => {
                format!("{host} has no program puzzlefs where its shell looks{why}")
            }
            Some(status) => format!("{program} to {host} ends with status {status}{why}"),
            None => format!("{program} to {host} was killed{why}"),
        };
        let may_pass = self.is_met.load(Ordering::Relaxed) && status != Some(NO_PROGRAM);
        Err((Error::unreached(text), may_pass))
    }

    /// Lets the session of an answer be used again, if that is through; else gives it back.
    pub(super) fn done(&self, answer: Answer) -> Option<Answer> {
        if answer.left > 0 {
            return Some(answer);
        }
        self.idle().push(answer.session);
        None
    }

    /// Sends a request, and waits for its answer.
    pub(super) fn ask(&self, request: &Request) -> Result<Answer> {
        let mut retry = Retry::new(self.retries);
        loop {
            let why = match self.ask_once(request) {
                Ok(answer) => return answer,
                Err((error, false)) => return Err(error),
                Err((error, true)) => error,
            };
            retry.wait(None, why)?;
        }
    }

    fn ask_once(&self, request: &Request) -> Result<Result<Answer>, (Error, bool)> {
        let waiting = self.idle().pop();
        let was_idle = waiting.is_some();
        let mut session = waiting.map_or_else(|| self.start(), Ok)?;
        let line = format!("{}\n", request.line());
        let sent = session.to.write_all(line.as_bytes());
        // Who has no layout to show says so, and listens no more.
        let line = match wire::read_line(&mut session.from) {
            Ok(None) => sent.map(|()| None),
            line => line,
        };
        let line = match line {
            Ok(Some(line)) => line,
            // One that has waited may have ended long ago.
            _ if was_idle => return self.ask_once(request),
            Ok(None) => return Err((self.cut("too early an end"), true)),
            Err(e) => return Err((self.cut(&e.to_string()), true)),
        };
        if let Some(error) = wire::error_of(&line) {
            self.idle().push(session);
            return Ok(Err(error));
        }
        let Some(media_type) = line.strip_prefix("ok") else {
            let line = text::quoted(line.as_bytes());
            return Err((self.cut(&format!("it says {line:?}")), false));
        };
        let media_type = media_type.trim().to_owned();
        let mut answer = Answer {
            session,
            media_type,
            left: 0,
        };
        match answer.begin_frame() {
            Ok(()) => Ok(Ok(answer)),
            Err(e) => Err((self.cut(&e.to_string()), true)),
        }
    }

    pub(super) fn cut(&self, why: &str) -> Error {
        Error::unreached(format!("{}: {why}", self.reference.layout()))
    }
}

impl Answer {
    /// Reads the length of the next frame.
    fn begin_frame(&mut self) -> io::Result<()> {
        let length = wire::read_length(&mut self.session.from)?;
        if length == wire::FAILED {
            let line = wire::read_line(&mut self.session.from)?.unwrap_or_default();
            let error = wire::error_of(&line);
            return Err(io::Error::other(
                error.unwrap_or_else(|| Error::unreached("an error without words")),
            ));
        }
        self.left = length as usize;
        match self.left <= wire::MAX_FRAME {
            true => Ok(()),
            false => Err(io::Error::new(
                ErrorKind::InvalidData,
                "a frame is too long",
            )),
        }
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len());
        // A BufReader waits for bytes also where none are wanted.
        if most == 0 {
            return Ok(0);
        }
        let count = self.session.from.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        // So the end is known with the last bytes, and the session is free.
        if self.left == 0 {
            self.begin_frame()?;
        }
        Ok(count)
    }
}
