// SPDX-License-Identifier: Apache-2.0
//! What kind of failure an error is, for whoever is to act on it: a script, by the exit status.
//!
//! A kind is a mark on an [`anyhow::Error`] that leaves its text as it is, and is found below
//! any context that was added later.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use anyhow::{Error, Result};
use rustix::io::Errno;

/// What kind of failure an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An image or a layout is not what its digests or the format say.
    Damaged,
    /// What was named is not there.
    NotFound,
    /// It was not done for lack of rights, or as it would have done harm.
    Refused,
    /// Anything else: a disk that is full or fails, no memory.
    Trouble,
}

impl Failure {
    /// The kind of `error`: as it was marked first, or by what the system or the format core said.
    pub fn of(error: &Error) -> Failure {
        let marked = error.chain().find_map(|cause| cause.downcast_ref());
        if let Some(Marked { kind, .. }) = marked {
            return *kind;
        }
        if error
            .chain()
            .any(|cause| cause.is::<puzzlefs_format::Error>())
        {
            return Failure::Damaged;
        }
        match error.chain().find_map(system) {
            Some(io::ErrorKind::NotFound) => Failure::NotFound,
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                Failure::Refused
            }
            _ => Failure::Trouble,
        }
    }

    /// Marks an error, unless it has a mark already.
    pub fn mark(self, error: impl Into<Error>) -> Error {
        let error = error.into();
        match error.chain().any(|cause| cause.is::<Marked>()) {
            true => error,
            false => Marked { kind: self, error }.into(),
        }
    }

    /// An error of this kind.
    pub fn error(self, text: impl fmt::Display) -> Error {
        self.mark(Error::msg(text.to_string()))
    }
}

/// Marks what went wrong with reading an image as damage of it, but for what the system had to
/// say: too many open files are no damage. A blob that is missing or short is.
pub fn damage<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match error.chain().find_map(system) {
        None | Some(io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            Failure::Damaged.mark(error)
        }
        Some(_) => error,
    })
}

/// What the system said, if `cause` is that.
fn system(cause: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    io.or_else(|| cause.downcast_ref::<Errno>().map(|errno| errno.kind()))
}

/// An error with a mark. Its text and its causes are those of the error.
struct Marked {
    kind: Failure,
    error: Error,
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Marked {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_mark_is_found_below_contexts_and_changes_no_text() {
        let inner = Error::msg("a cause").context("a text");
        let (plain, error) = (format!("above: {inner:#}"), Failure::Refused.mark(inner));
        let error = Err::<(), _>(error).context("above").unwrap_err();
        assert_eq!(Failure::of(&error), Failure::Refused);
        assert_eq!(format!("{error:#}"), plain);
        // The first mark counts.
        assert_eq!(Failure::of(&Failure::Damaged.mark(error)), Failure::Refused);
    }

    #[test]
    fn the_system_and_the_format_say_their_kind() {
        let of = |error: Error| Failure::of(&error.context("above"));
        assert_eq!(of(Errno::NOENT.into()), Failure::NotFound);
        assert_eq!(of(Errno::ACCESS.into()), Failure::Refused);
        assert_eq!(of(Errno::MFILE.into()), Failure::Trouble);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(of(missing().into()), Failure::NotFound);
        let read = |error: Error| of(damage::<()>(Err(error)).unwrap_err());
        assert_eq!(read(missing().into()), Failure::Damaged);
        assert_eq!(read(Error::msg("another digest")), Failure::Damaged);
        // Descriptors that ran out say nothing of the image.
        assert_eq!(read(Errno::MFILE.into()), Failure::Trouble);
    }
}
