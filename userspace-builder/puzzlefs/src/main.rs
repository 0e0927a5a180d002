// SPDX-License-Identifier: Apache-2.0
//! The `puzzlefs` command: arguments in, library calls, text or JSON out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        // The reader of our output has seen enough, as in `puzzlefs ls ... | head`.
        Err(error) if broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            let text = format!("puzzlefs: error: {error:#}");
            eprintln!("{}", puzzlefs::base::text::line(&text));
            ExitCode::FAILURE
        }
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(kind)
            || cause.downcast_ref().is_some_and(|e: &serde_json::Error| {
                e.io_error_kind() == Some(std::io::ErrorKind::BrokenPipe)
            })
    })
}
