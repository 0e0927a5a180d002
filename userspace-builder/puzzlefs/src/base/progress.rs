// SPDX-License-Identifier: Apache-2.0
//! How long work tells its caller how far it is. Bars live in the CLI only.

/// What the numbers of a phase count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, chunks and the like.
    Items,
}

/// Told about the progress of long work, from several threads.
pub trait Progress: Sync {
    /// A phase begins; `total` is 0 when it is not known.
    fn phase(&self, name: &str, total: u64, unit: Unit);
    /// `amount` more is done.
    fn advance(&self, amount: u64);
    /// Something a person should know, that is not an error.
    fn note(&self, text: &str);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
}
