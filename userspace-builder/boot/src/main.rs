// SPDX-License-Identifier: Apache-2.0
//! The program of boot images. What it does, the library says: `puzzlefs::boot`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use puzzlefs::base::progress::{Progress, Unit};
use puzzlefs::{boot, Error};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

/// What is said of a start, if PUZZLEFS_VERBOSE is set: standard error is the application's.
struct Notes {
    is_verbose: bool,
}

impl Progress for Notes {
    fn phase(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn note(&self, text: &str) {
        if self.is_verbose {
            say(text);
        }
    }
}

fn say(text: &str) {
    // Nobody is there to be told that this cannot be written.
    let _ = writeln!(std::io::stderr(), "puzzlefs: {text}");
}

fn main() -> ExitCode {
    end_on_signals();
    let notes = Notes {
        is_verbose: std::env::var_os("PUZZLEFS_VERBOSE").is_some(),
    };
    match boot::start(std::env::args_os().skip(1).collect(), &notes, say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(status(&error))
        }
    }
}

/// As shells and runtimes have it: 126 for what may not be run, 127 for what is not there, 125 for what is not started.
fn status(error: &Error) -> u8 {
    match error {
        Error::NotFound(_) => 127,
        Error::Refused(_) => 126,
        Error::Damaged(_) | Error::Trouble(_) => 125,
    }
}

/// Has signals end the start at once: the first process of a container gets none that it does not wait for. What is half
/// made then, the next start removes. No thread waits for them, as this process is to have namespaces of its own.
fn end_on_signals() {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        // Without memory for that the runtime's SIGKILL ends it.
        let _ = register_conditional_shutdown(signal, 128 + signal, Arc::clone(&always));
    }
}
