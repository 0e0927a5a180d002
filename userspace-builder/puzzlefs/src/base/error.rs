// SPDX-License-Identifier: Apache-2.0
//! Why something was not done.
//!
//! Within a room errors are those of [`anyhow`]: what failed, and below it why, for people. Whoever calls
//! the library gets an [`Error`], whose variant says what is to be done about it. What has no variant of
//! its own yet gets one where it leaves the library's rooms (`?` does that), by what the system or the
//! format core said.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use puzzlefs_format::Digest;
use rustix::io::Errno;

/// What the functions of the library return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was not done. Its text is for people, with `{:#}` all of it in a line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An image or a layout is not what its digests or the format say, or a part of it is missing: it
    /// is to be copied or built again.
    #[error(transparent)]
    Damaged(Fault),
    /// What was named is not there.
    #[error(transparent)]
    NotFound(Fault),
    /// It was not done for lack of rights, or as it would have done harm.
    #[error(transparent)]
    Refused(Fault),
    /// Anything else: a disk that is full or fails, no memory. It may go well another time.
    #[error(transparent)]
    Trouble(Fault),
}

/// What [`Error::unreached`] says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreached(String);

/// What went wrong, and where.
pub struct Fault {
    /// The file or the directory, if it is known that one is to blame.
    pub path: Option<PathBuf>,
    /// The blob or the chunk.
    pub digest: Option<Digest>,
    /// With all that was known of it, the newest first.
    cause: anyhow::Error,
}

impl Error {
    pub(crate) fn damaged(text: impl fmt::Display) -> Self {
        Error::Damaged(Fault::new(text))
    }

    pub(crate) fn not_found(text: impl fmt::Display) -> Self {
        Error::NotFound(Fault::new(text))
    }

    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Error::Refused(Fault::new(text))
    }

    pub(crate) fn trouble(text: impl fmt::Display) -> Self {
        Error::Trouble(Fault::new(text))
    }

    /// Something outside of this machine did not answer, or not as it should: that says nothing about
    /// an image.
    pub(crate) fn unreached(text: impl fmt::Display) -> Self {
        anyhow::Error::from(Unreached(text.to_string())).into()
    }

    /// Says to which file it happened.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.parts_mut().path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Says to which blob or chunk it happened.
    pub(crate) fn of(mut self, digest: &Digest) -> Self {
        self.parts_mut().digest.get_or_insert(*digest);
        self
    }

    /// Says what failed by that.
    pub(crate) fn context(self, text: impl fmt::Display + Send + Sync + 'static) -> Self {
        anyhow::Error::from(self).context(text).into()
    }

    /// What went wrong, and where.
    pub fn fault(&self) -> &Fault {
        match self {
            Error::Damaged(fault)
            | Error::NotFound(fault)
            | Error::Refused(fault)
            | Error::Trouble(fault) => fault,
        }
    }

    fn parts_mut(&mut self) -> &mut Fault {
        match self {
            Error::Damaged(fault)
            | Error::NotFound(fault)
            | Error::Refused(fault)
            | Error::Trouble(fault) => fault,
        }
    }

    fn variant(&self) -> fn(Fault) -> Self {
        match self {
            Error::Damaged(_) => Error::Damaged,
            Error::NotFound(_) => Error::NotFound,
            Error::Refused(_) => Error::Refused,
            Error::Trouble(_) => Error::Trouble,
        }
    }

    /// What the system said, if that is why.
    pub fn system(&self) -> Option<io::ErrorKind> {
        system(&self.fault().cause)
    }
}

impl Fault {
    fn new(text: impl fmt::Display) -> Self {
        anyhow::Error::msg(text.to_string()).into()
    }
}

impl From<anyhow::Error> for Fault {
    fn from(cause: anyhow::Error) -> Self {
        Fault {
            path: None,
            digest: None,
            cause,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

impl From<anyhow::Error> for Error {
    fn from(cause: anyhow::Error) -> Self {
        if cause
            .chain()
            .next()
            .is_some_and(|first| first.is::<Error>())
        {
            // Nothing was said since: it is this one.
            return cause
                .downcast()
                .unwrap_or_else(|cause| Error::Trouble(cause.into()));
        }
        let Some(known) = typed(&cause) else {
            return by_cause(&cause)(cause.into());
        };
        let (variant, path, digest) = (
            known.variant(),
            known.fault().path.clone(),
            known.fault().digest,
        );
        variant(Fault {
            path,
            digest,
            cause,
        })
    }
}

/// For `?` where no room said anything.
macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(cause: $error) -> Self {
                anyhow::Error::from(cause).into()
            }
        }
    )*};
}

from!(
    io::Error,
    Errno,
    puzzlefs_format::Error,
    serde_json::Error,
    std::num::TryFromIntError
);

/// Says where something failed.
pub(crate) trait Where<T> {
    /// The file or directory.
    fn at(self, path: &Path) -> Result<T>;
    /// The blob or chunk.
    fn of(self, digest: &Digest) -> Result<T>;
}

impl<T, E: Into<Error>> Where<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|error| error.into().at(path))
    }

    fn of(self, digest: &Digest) -> Result<T> {
        self.map_err(|error| error.into().of(digest))
    }
}

/// The variant of an error that has none yet.
fn by_cause(cause: &anyhow::Error) -> fn(Fault) -> Error {
    if cause
        .chain()
        .any(|cause| cause.is::<puzzlefs_format::Error>())
    {
        return Error::Damaged;
    }
    match system(cause) {
        Some(io::ErrorKind::NotFound) => Error::NotFound,
        Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => Error::Refused,
        _ => Error::Trouble,
    }
}

/// Takes what went wrong with reading an image for damage of it, unless it is known for something else,
/// or says nothing about the image. A part that is not there is damage too.
pub(crate) fn damage<T>(result: anyhow::Result<T>) -> Result<T> {
    result.map_err(|cause| {
        let error = Error::from(cause);
        let is_known = match &error {
            Error::Damaged(_) | Error::Refused(_) => true,
            Error::NotFound(_) => error.system().is_none(),
            Error::Trouble(fault) => is_trouble(&fault.cause),
        };
        match (is_known, error) {
            (false, Error::NotFound(fault) | Error::Trouble(fault)) => Error::Damaged(fault),
            (_, error) => error,
        }
    })
}

/// Whether an error says nothing about a blob, but that it could not be read: so nobody is to
/// delete it. One that is missing is not there in fact, and one that is cut is damaged.
pub(crate) fn is_trouble(error: &anyhow::Error) -> bool {
    if is_unreached(error) {
        return true;
    }
    let is_said = |said: &io::Error| said.raw_os_error().is_some();
    let said = said_by_system(error);
    said.iter()
        .any(|said| is_said(said) && said.kind() != io::ErrorKind::NotFound)
}

fn is_unreached(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match typed_cause(cause) {
        Some(typed) => is_unreached(&typed.fault().cause),
        None => cause.is::<Unreached>(),
    })
}

fn system(error: &anyhow::Error) -> Option<io::ErrorKind> {
    said_by_system(error).first().map(io::Error::kind)
}

/// The error that has a variant already, if one has.
fn typed(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(typed_cause)
}

/// The error that a cause is, or that a reader has made an [`io::Error`] of.
fn typed_cause<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let inner = || cause.downcast_ref::<io::Error>()?.get_ref();
    cause
        .downcast_ref()
        .or_else(|| inner()?.downcast_ref::<Error>())
}

/// What the system said, the last of it first.
pub(crate) fn said_by_system(error: &anyhow::Error) -> Vec<io::Error> {
    let mut said = Vec::new();
    for cause in error.chain() {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            said.push(match io.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io.kind().into(),
            });
        } else if let Some(errno) = cause.downcast_ref::<Errno>() {
            said.push((*errno).into());
        } else if let Some(typed) = cause.downcast_ref::<Error>() {
            // Its own cause is not in the chain: the text would come twice.
            said.extend(said_by_system(&typed.fault().cause));
            break;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_variant_passes_through_rooms_and_changes_no_text() {
        let digest = Digest::from_bytes([7; 32]);
        let typed = || {
            let below = anyhow::Error::msg("a cause").context("a text");
            let refused = Error::Refused(below.into());
            refused.at(Path::new("/a")).of(&digest).at(Path::new("/b"))
        };
        assert_eq!(format!("{:#}", typed()), "a text: a cause");
        let room = |error: Error| Err::<(), _>(error).context("above");
        for error in [typed().context("above"), room(typed()).unwrap_err().into()] {
            assert_eq!(format!("{error}"), "above");
            assert_eq!(format!("{error:#}"), "above: a text: a cause");
            assert!(matches!(error, Error::Refused(_)), "{error:#}");
            assert_eq!(error.fault().path.as_deref(), Some(Path::new("/a")));
            assert_eq!(error.fault().digest, Some(digest));
            let mut sources = Vec::new();
            let mut source = error.source();
            while let Some(cause) = source {
                sources.push(cause.to_string());
                source = cause.source();
            }
            assert_eq!(sources, ["a text", "a cause"]);
            // The first variant counts.
            let read = damage::<()>(Err(error.into())).unwrap_err();
            assert!(matches!(read, Error::Refused(_)));
        }
    }

    #[test]
    fn the_system_and_the_format_say_their_variant() {
        let of = |error: anyhow::Error| Error::from(error.context("above"));
        assert!(matches!(of(Errno::NOENT.into()), Error::NotFound(_)));
        assert!(matches!(of(Errno::ACCESS.into()), Error::Refused(_)));
        assert!(matches!(of(Errno::MFILE.into()), Error::Trouble(_)));
        let missing = || io::Error::from_raw_os_error(Errno::NOENT.raw_os_error());
        assert!(matches!(of(missing().into()), Error::NotFound(_)));
        let format = puzzlefs_format::Error::NoRootfs;
        assert!(matches!(of(format.into()), Error::Damaged(_)));
        // One that has been made an error of the library says it too.
        let inner = |errno: Errno| anyhow::Error::from(Error::from(errno));
        assert!(is_trouble(&inner(Errno::IO).context("above")));
        assert!(!is_trouble(&inner(Errno::NOENT).context("above")));
        let full = Error::from(Errno::NOSPC).context("above");
        assert_eq!(full.system(), Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn what_cannot_be_read_is_no_damage() {
        let read = |error: anyhow::Error| damage::<()>(Err(error)).unwrap_err();
        let missing = io::Error::from_raw_os_error(Errno::NOENT.raw_os_error());
        assert!(matches!(read(missing.into()), Error::Damaged(_)));
        let short = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(matches!(read(short.into()), Error::Damaged(_)));
        // zstd's errors are of the kind Other, and the system has not said them.
        let codec = io::Error::other("corrupted");
        assert!(matches!(read(codec.into()), Error::Damaged(_)));
        let other = anyhow::Error::msg("another digest");
        assert!(matches!(read(other), Error::Damaged(_)));
        // The same of what a room below has called missing, or in trouble.
        let blob = || Error::from(Errno::NOENT).of(&Digest::from_bytes([7; 32]));
        assert!(matches!(read(blob().into()), Error::Damaged(fault) if fault.digest.is_some()));
        assert!(matches!(
            read(Error::trouble("too large").into()),
            Error::Damaged(_)
        ));
        // A network that is down says nothing of the image, also through a reader.
        let down = || Error::unreached("down").context("a blob");
        assert!(matches!(read(down().into()), Error::Trouble(_)));
        let of_reader = anyhow::Error::from(io::Error::other(down())).context("above");
        assert!(matches!(read(of_reader), Error::Trouble(_)));
        let lie = io::Error::other(Error::damaged("a lie"));
        assert!(matches!(Error::from(lie), Error::Damaged(_)));
        // Descriptors that ran out say nothing of the image, nor does a tag that it never had.
        assert!(matches!(read(Errno::MFILE.into()), Error::Trouble(_)));
        assert!(matches!(
            read(Error::not_found("no tag").into()),
            Error::NotFound(_)
        ));
    }
}
