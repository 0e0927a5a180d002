// SPDX-License-Identifier: Apache-2.0
//! Values that arguments of several commands have.

use clap::ValueEnum;
use puzzlefs::layout::reference::is_tag;

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// JSON, for scripts
    Json,
}

/// A tag, as the value of an argument.
pub fn parse_tag(text: &str) -> Result<String, String> {
    match is_tag(text) {
        true => Ok(text.to_owned()),
        false => Err("a tag has letters, digits and -._@+".into()),
    }
}
