// SPDX-License-Identifier: Apache-2.0
//! Images that something is wrong with, where others are to be gone on with.

use std::fmt::Display;

use anyhow::Error;
use serde::Serialize;

use crate::base::error::is_trouble;

/// Images that could not be used, each with the reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Broken {
    /// Those that are damaged.
    pub broken: Vec<String>,
    /// Those that could not be read, so that nothing is known of them: too many open files, an error
    /// of the disk, something else than a file in the place of a blob.
    pub unread: Vec<String>,
}

impl Broken {
    /// Notes an image, which `fault` names.
    pub(crate) fn push(&mut self, fault: impl Into<Error>) {
        let fault = fault.into();
        let list = match is_trouble(&fault) {
            true => &mut self.unread,
            false => &mut self.broken,
        };
        list.push(format!("{fault:#}"));
    }

    /// Whether `fault` was noted, be it as the reason for another.
    pub(crate) fn has(&self, fault: &impl Display) -> bool {
        let text = format!("{fault:#}");
        let mut all = self.broken.iter().chain(&self.unread);
        all.any(|known| known.contains(&text))
    }
}
