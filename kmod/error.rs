// SPDX-License-Identifier: GPL-2.0

//! Which errno an error of the format is.

use kernel::prelude::*;
use puzzlefs_format as format;

/// The errno of `error`: `EOPNOTSUPP` for an image of a version that this module does
/// not know, else `EUCLEAN`, as other filesystems say of corrupted metadata.
pub(crate) fn errno(error: format::Error) -> Error {
    match error {
        format::Error::UnsupportedVersion(_) => EOPNOTSUPP,
        _ => EUCLEAN,
    }
}
