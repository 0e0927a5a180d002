// SPDX-License-Identifier: Apache-2.0
//! How the command ends: its exit status, and what signals do.

use std::fs;
use std::io;
use std::process::ExitCode;
use std::thread;

use puzzlefs::base::cleanup;
use puzzlefs::Error;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::failure::Failure;
use super::out;

/// All that was asked for was done, but for what the caller has no right to set, or no tar can hold.
pub const LEFT_OUT: u8 = 2;
/// An image is damaged.
pub const DAMAGED: u8 = 3;
/// The command line makes no sense (EX_USAGE of sysexits.h).
pub const USAGE: u8 = 64;

/// What the manual pages say of it.
pub const STATUS: &[(&str, &str)] = &[
    ("0", "All that was asked for was done."),
    ("1", "Trouble: a disk is full or fails, the output cannot be written, memory is short. Of puzzlefs diff --exit-code: the images differ."),
    ("2", "Something was left out: by puzzlefs extract what the caller has no right to set, by puzzlefs export what no tar can hold."),
    ("3", "Damage: the image or the layout is not what its digests or the format say, or a part is missing."),
    ("4", "Not found: there is no such layout, tag, or file."),
    ("5", "Refused: the caller has no right to do it, or it would have done harm."),
    ("64", "The command line makes no sense."),
    ("128+N", "As a shell shows it: ended by the signal N. After SIGINT, SIGTERM and SIGHUP nothing that was half made is left. SIGPIPE: the reader of the output had seen enough."),
];

/// What the manual pages of the mount helper say of it: mount(8) passes it on.
pub const MOUNT_STATUS: &[(&str, &str)] = &[
    ("0", "The image is mounted."),
    ("1", "The command line makes no sense."),
    (
        "32",
        "The image is not mounted. What is wrong was said on standard error.",
    ),
];

/// Says why it failed, and with which status to end.
pub fn failed(failure: &Failure) -> ExitCode {
    let status = match failure {
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // The reader of our output has seen enough, as in `puzzlefs ls ... | head`: the
            // end is that of any other program there.
            let _ = emulate_default_handler(SIGPIPE);
            return ExitCode::FAILURE;
        }
        Failure::Output(_) | Failure::Work(Error::Trouble(_)) => 1,
        Failure::Work(Error::Damaged(_)) => DAMAGED,
        Failure::Work(Error::NotFound(_)) => 4,
        Failure::Work(Error::Refused(_)) => 5,
        Failure::Usage(_) => USAGE,
        Failure::Ended(status) => return ExitCode::from(*status),
    };
    out::error(&format!("puzzlefs: error: {}", failure.text()));
    ExitCode::from(status)
}

/// Has signals remove what is half made, and then end the process as they would have. One that
/// is ignored, as nohup(1) has it, stays so.
pub fn tidy_on_signals() {
    let ignored = ignored_signals();
    let caught = [SIGINT, SIGTERM, SIGHUP];
    let caught = caught
        .into_iter()
        .filter(|signal| (ignored >> (signal - 1)) & 1 == 0);
    // Without memory for that all goes on: what is left then, the next run removes.
    let Ok(mut signals) = Signals::new(caught) else {
        return;
    };
    let tidy = move || {
        for signal in signals.forever().filter(|signal| !cleanup::pass(*signal)) {
            cleanup::run();
            let _ = emulate_default_handler(signal);
        }
    };
    let _ = thread::Builder::new().name("signals".into()).spawn(tidy);
}

/// The signals that are ignored, a bit each (proc(5)). None where /proc is not mounted.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
