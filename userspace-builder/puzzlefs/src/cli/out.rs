// SPDX-License-Identifier: Apache-2.0
//! All that the command writes to a terminal or a pipe goes through here (clippy.toml sees to it).
//!
//! What was asked for goes to stdout, and if it cannot be written that is an error: who reads
//! it must not take a part for the whole. What is said by the way goes to stderr; if it cannot be
//! written, nobody is there to be told, and the work goes on.

#![allow(clippy::disallowed_methods, reason = "this is the place")]

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use puzzlefs::base::text;

use super::failure::{Failure, Result};

static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on nothing is said but errors.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether only errors are to be said.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes to stdout all that `fill` writes.
pub fn write<T>(fill: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = fill(&mut out)?;
    out.flush().map_err(Failure::Output)?;
    Ok(done)
}

/// Writes an answer of the argument parser, help or version, to stdout.
pub fn help(answer: &clap::Error) -> Result<()> {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    printed.map_err(Failure::Output)
}

/// Says an error, or the like, in a line.
pub fn error(text: &str) {
    let line = text::line(text) + "\n";
    // One write(2), so that lines of several processes do not mix.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Says something that is no error.
pub fn note(text: &str) {
    if !is_quiet() {
        error(&format!("puzzlefs: {text}"));
    }
}

/// Whether what goes to stdout goes to a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person watches stderr.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}
