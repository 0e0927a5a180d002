// SPDX-License-Identifier: GPL-2.0

//! Initialisers (`rust/pin-init`). Here they give values, since nothing need be pinned.

use core::convert::Infallible;

/// What makes a `T`.
pub trait PinInit<T, E = Infallible> {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// Those of its parts.
    fn make(self) -> Result<T, E>;
}

/// What makes a value by a function: what [`crate::pin_init`] gives.
#[derive(Debug)]
pub struct By<F>(pub F);

impl<T, E, F: FnOnce() -> Result<T, E>> PinInit<T, E> for By<F> {
    fn make(self) -> Result<T, E> {
        (self.0)()
    }
}

/// `pin_init!(Self { field: value, field <- initialiser, field })`.
#[macro_export]
macro_rules! pin_init {
    (Self { $($fields:tt)* }) => {
        $crate::init::By(move || {
            $crate::pin_init!(@ [] $($fields)*)
        })
    };
    (@ [$($done:tt)*]) => {
        Ok::<Self, core::convert::Infallible>(Self { $($done)* })
    };
    (@ [$($done:tt)*] $field:ident <- $init:expr $(, $($rest:tt)*)?) => {{
        let $field = $crate::init::PinInit::make($init)?;
        $crate::pin_init!(@ [$($done)* $field,] $($($rest)*)?)
    }};
    (@ [$($done:tt)*] $field:ident: $value:expr $(, $($rest:tt)*)?) => {{
        let $field = $value;
        $crate::pin_init!(@ [$($done)* $field,] $($($rest)*)?)
    }};
    (@ [$($done:tt)*] $field:ident $(, $($rest:tt)*)?) => {
        $crate::pin_init!(@ [$($done)* $field,] $($($rest)*)?)
    };
}
