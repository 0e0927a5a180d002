// SPDX-License-Identifier: Apache-2.0
//! Why the command failed: what its exit status tells apart.

use std::io;

use puzzlefs::Error;

/// Why the command failed.
pub enum Failure {
    /// What was asked for could not be done.
    Work(Error),
    /// It makes no sense.
    Usage(String),
    /// What there was to say could not be written.
    Output(io::Error),
    /// A process that does it for this one has said why, and ended with this status.
    Ended(u8),
}

/// What commands return.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// All of it in a line.
    pub fn text(&self) -> String {
        match self {
            Failure::Work(error) => format!("{error:#}"),
            Failure::Usage(text) => text.clone(),
            Failure::Output(error) => format!("standard output: {error}"),
            Failure::Ended(status) => format!("exit status {status}"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Work(error)
    }
}
