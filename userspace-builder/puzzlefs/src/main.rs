// SPDX-License-Identifier: Apache-2.0
//! The `puzzlefs` command: arguments in, library calls, text or JSON out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("puzzlefs: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
