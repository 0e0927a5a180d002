// SPDX-License-Identifier: Apache-2.0
//! A program that runs for this one: what is to end this one ends that.

use std::io::{self, IsTerminal};
use std::process::{Child, ExitStatus};

use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};

use super::cleanup;

/// Waits until `child` ends. Until then it gets the signals that this process gets.
pub(crate) fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let _passed = cleanup::pass_to(move |signal| {
        // What comes from a terminal, the program has got as well.
        let is_known = signal == Signal::INT.as_raw() && io::stdin().is_terminal();
        if let Some(signal) = Signal::from_named_raw(signal).filter(|_| !is_known) {
            // One that has ended has no need of it.
            let _ = pidfd_send_signal(&process, signal);
        }
    });
    child.wait()
}
