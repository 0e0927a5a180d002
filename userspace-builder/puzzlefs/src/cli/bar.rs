// SPDX-License-Identifier: Apache-2.0
//! A progress bar: only on a terminal, and only for work of more than two seconds.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use puzzlefs::base::progress::{Progress, Unit};

const DELAY: Duration = Duration::from_secs(2);

/// The bar.
pub struct Bar {
    bar: ProgressBar,
    /// When to appear; `None` once it has, or if it never will.
    hidden_until: Mutex<Option<Instant>>,
}

impl Bar {
    /// A bar that is still hidden.
    pub fn new() -> Self {
        let until = std::io::stderr()
            .is_terminal()
            .then(|| Instant::now() + DELAY);
        Bar {
            bar: ProgressBar::hidden(),
            hidden_until: Mutex::new(until),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn phase(&self, name: &str, total: u64, unit: Unit) {
        let template = match (unit, total) {
            (Unit::Bytes, 1..) => {
                "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left"
            }
            (Unit::Bytes, 0) => "{msg} {bytes}",
            (Unit::Items, 1..) => "{msg} [{bar:30}] {human_pos}/{human_len}, {eta} left",
            (Unit::Items, 0) => "{msg} {human_pos}",
        };
        // The templates above are well-formed.
        self.bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        self.bar.set_length(total);
        self.bar.set_position(0);
        self.bar.set_message(puzzlefs::base::text::line(name));
    }

    fn advance(&self, amount: u64) {
        let mut until = self
            .hidden_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|at| Instant::now() >= at) {
            *until = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        drop(until);
        self.bar.inc(amount);
    }

    fn note(&self, text: &str) {
        let text = puzzlefs::base::text::line(text);
        self.bar.suspend(|| eprintln!("puzzlefs: {text}"));
    }
}
