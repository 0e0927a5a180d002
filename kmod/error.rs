// SPDX-License-Identifier: GPL-2.0

//! Which errno an error of the format is.

use kernel::prelude::*;
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
