// SPDX-License-Identifier: Apache-2.0
//! Why the metadata of an image give no answer.

use rustix::io::Errno;

/// Why a question about the metadata has no answer.
pub(super) enum Failure {
    /// They are not sound.
    Format(puzzlefs_format::Error),
    /// Something else, which nobody needs to read of.
    Errno(Errno),
}

impl From<puzzlefs_format::Error> for Failure {
    fn from(error: puzzlefs_format::Error) -> Self {
        Failure::Format(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Errno(errno)
    }
}
