// SPDX-License-Identifier: Apache-2.0
//! The `puzzlefs` command: arguments in, library calls, text or JSON out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
