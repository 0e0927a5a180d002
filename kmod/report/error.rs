// SPDX-License-Identifier: GPL-2.0

//! Which errno an error of the format is, and how the log hears of those in metadata.

use super::faults::{Faults, Purpose};
use kernel::{alloc::AllocError, prelude::*};
use puzzlefs_format as format;

/// The errno of `error`: `EOPNOTSUPP` for an image of a version that this module does
/// not know, what reading said for metadata that could not be read, else `EUCLEAN`, as other
/// filesystems say of corrupted metadata.
pub(crate) fn errno(error: format::Error) -> Error {
    match error {
        format::Error::UnsupportedVersion(_) => EOPNOTSUPP,
        // Made from an errno, by `metadata`.
        format::Error::Unreadable(code) => Error::from_errno(code),
        _ => EUCLEAN,
    }
}

/// Why an operation on the metadata of a mounted image failed. The function that begins the
/// operation knows the inode: it makes an errno of the failure by [`logged`].
pub(crate) enum Failure {
    /// The metadata are not sound.
    Unsound(format::Error),
    /// Anything else, or what the log has heard of already.
    Errno(Error),
}

impl From<format::Error> for Failure {
    fn from(error: format::Error) -> Self {
        match error {
            format::Error::Unreadable(code) => Self::Errno(Error::from_errno(code)),
            _ => Self::Unsound(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

impl From<AllocError> for Failure {
    fn from(error: AllocError) -> Self {
        Self::Errno(error.into())
    }
}

/// From a failure of what `purpose` names to its errno, after the log was told what is not sound.
pub(crate) fn logged<F: Into<Failure>>(
    faults: &Faults,
    purpose: Purpose,
) -> impl FnOnce(F) -> Error + use<'_, F> {
    move |failure| match failure.into() {
        Failure::Unsound(error) => {
            faults.log_metadata(purpose, format_args!("{error}"));
            errno(error)
        }
        Failure::Errno(error) => error,
    }
}
