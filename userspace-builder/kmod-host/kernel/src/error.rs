// SPDX-License-Identifier: GPL-2.0

//! Errnos (`rust/kernel/error.rs`).

use crate::alloc::AllocError;
use crate::vec::{PushError, RemoveError};
use core::convert::Infallible;
use core::fmt;

/// An errno, negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(i32);

/// A result whose error is an errno, as a rule.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

impl Error {
    /// The error of a negative errno; `EINVAL` for what is none, as there.
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            -4095..=-1 => Self(errno),
            _ => code::EINVAL,
        }
    }

    /// The negative errno.
    pub fn to_errno(self) -> i32 {
        self.0
    }
}

macro_rules! codes {
    ($($name:ident $number:literal,)*) => {
        /// The errnos by their names (`include/uapi/asm-generic/errno.h`).
        #[allow(missing_docs)]
        pub mod code {
            use super::Error;
            $(pub const $name: Error = Error(-$number);)*
        }

        impl fmt::Debug for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $(-$number => f.write_str(stringify!($name)),)*
                    errno => write!(f, "Error({errno})"),
                }
            }
        }
    };
}

codes! {
    ENOENT 2, EINTR 4, EIO 5, ENXIO 6, EAGAIN 11, ENOMEM 12, EACCES 13, ENOTDIR 20, EINVAL 22,
    EFBIG 27, ERANGE 34, ELOOP 40, ENODATA 61, EOVERFLOW 75, EBADMSG 74, EOPNOTSUPP 95, ESTALE 116,
    EUCLEAN 117, ENOKEY 126, EKEYREJECTED 129, ERESTARTSYS 512,
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

impl<T> From<PushError<T>> for Error {
    fn from(_: PushError<T>) -> Self {
        code::EINVAL
    }
}

impl From<RemoveError> for Error {
    fn from(_: RemoveError) -> Self {
        code::EINVAL
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
