// SPDX-License-Identifier: GPL-2.0

//! The kernel log, and that of a mount: lines that a test can look at.

use kernel::{fmt, prelude::*};
use std::sync::{Arc, Mutex, PoisonError};

/// Lines that were logged, and how many more fit.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Mutex<(Vec<String>, usize)>>);

impl Lines {
    /// Room for so many lines.
    pub fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), room))))
    }

    fn add(&self, arguments: fmt::Arguments<'_>) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, room) = &mut *lines;
        let fits = lines.len() < *room;
        if fits {
            lines.push(arguments.to_string());
        }
        fits
    }

    /// Takes the lines that there are.
    pub fn take(&self) -> Vec<String> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut lines.0)
    }
}

/// The kernel log for one superblock. As many lines as fit are those that `___ratelimit` allows.
#[derive(Debug)]
pub struct KernelLog(Lines);

impl KernelLog {
    /// A log that goes to `lines`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(lines: &Lines) -> Result<Pin<KBox<Self>>> {
        Ok(KBox::pin(Self(lines.clone()), GFP_KERNEL)?)
    }

    /// Logs a warning. False if there were too many of late.
    pub fn warn(&self, arguments: fmt::Arguments<'_>) -> bool {
        self.0.add(arguments)
    }
}

/// The log of a mount (`errorfc`).
#[derive(Debug)]
pub struct Log<'a>(pub &'a Lines);

impl Log<'_> {
    /// Logs an error.
    pub fn error(&self, arguments: fmt::Arguments<'_>) {
        self.0.add(arguments);
    }
}
