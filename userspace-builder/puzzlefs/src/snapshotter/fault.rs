// SPDX-License-Identifier: Apache-2.0
//! Why a call fails, in the terms of containerd's errdefs package: it decides by them what it does next.

use crate::base::error::Error;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no such snapshot.
    NotFound,
    /// There is one by this name; for a layer that is to be unpacked: it need not be.
    AlreadyExists,
    /// It is of a kind, or in a state, for which the call is not.
    FailedPrecondition,
    /// What was asked makes no sense.
    InvalidArgument,
    /// Something that is needed does not answer now.
    Unavailable,
    /// Anything else.
    Internal,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub kind: Kind,
    pub text: String,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Fault { kind, text }
    }

    pub fn not_found(name: &str) -> Self {
        Self::new(Kind::NotFound, format!("snapshot {name:?} does not exist"))
    }

    pub fn exists(name: &str) -> Self {
        Self::new(Kind::AlreadyExists, format!("snapshot {name:?}"))
    }

    pub fn precondition(text: impl Into<String>) -> Self {
        Self::new(Kind::FailedPrecondition, text)
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, text)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        // NotFound would mean the snapshot.
        let kind = match error {
            Error::NotFound(_) | Error::Trouble(_) => Kind::Unavailable,
            Error::Damaged(_) | Error::Refused(_) => Kind::Internal,
        };
        Self::new(kind, format!("{error:#}"))
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Internal, error.to_string())
    }
}
