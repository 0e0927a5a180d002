// SPDX-License-Identifier: Apache-2.0
//! Progress: on a terminal a bar, for work of more than two seconds; elsewhere a line a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use puzzlefs::base::cleanup;
use puzzlefs::base::progress::{Progress, Unit};
use puzzlefs::base::text;

use super::out;

const DELAY: Duration = Duration::from_secs(2);
/// The environment variable for the time between two lines, for the manual page too.
pub const SECONDS: &str = "PUZZLEFS_PROGRESS_SECONDS";
/// What it means.
pub const SECONDS_HELP: &str =
    "Seconds from one line of progress to the next, where standard error is no terminal. [60] 0: no lines.";

/// Who shows how far the work is.
pub struct Bar {
    bar: ProgressBar,
    state: Mutex<State>,
    _cleared_on_signal: cleanup::Guard,
}

struct State {
    /// When to appear; `None` once it has, or if it never will.
    hidden_until: Option<Instant>,
    /// When the next line is due, if lines are wanted, and the time between two.
    line: Option<(Instant, Duration)>,
    phase: String,
    unit: Unit,
    total: u64,
    done: u64,
}

impl Bar {
    /// A bar that is still hidden.
    pub fn new() -> Self {
        let now = Instant::now();
        let is_watched = out::is_watched();
        let every = seconds().filter(|_| !is_watched && !out::is_quiet());
        let bar = ProgressBar::hidden();
        let shown = bar.clone();
        Bar {
            bar,
            state: Mutex::new(State {
                hidden_until: (is_watched && !out::is_quiet()).then(|| now + DELAY),
                line: every.map(|every| (now + every, every)),
                phase: String::new(),
                unit: Unit::Items,
                total: 0,
                done: 0,
            }),
            _cleared_on_signal: cleanup::on_signal(move || shown.finish_and_clear()),
        }
    }
}

/// The time between two lines; `None` for no lines.
fn seconds() -> Option<Duration> {
    let text = std::env::var(SECONDS).unwrap_or_default();
    let seconds = text.parse().unwrap_or(60);
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl State {
    /// How far the work is.
    fn text(&self) -> String {
        let number = |count| match self.unit {
            Unit::Bytes => HumanBytes(count).to_string(),
            Unit::Items => HumanCount(count).to_string(),
        };
        let (phase, done) = (&self.phase, number(self.done));
        match u128::from(self.done) * 100 / u128::from(self.total.max(1)) {
            _ if self.total == 0 => format!("{phase}: {done}"),
            percent => format!("{phase}: {done} of {} ({percent}%)", number(self.total)),
        }
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
        self.bar.set_message(text::line(name));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.phase = name.to_owned();
        (state.total, state.unit, state.done) = (total, unit, 0);
    }

    fn advance(&self, amount: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done = state.done.saturating_add(amount);
        let now = Instant::now();
        if state.hidden_until.is_some_and(|at| now >= at) {
            state.hidden_until = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if let Some((due, every)) = state.line {
            if now >= due {
                state.line = Some((now + every, every));
                out::note(&state.text());
            }
        }
        drop(state);
        self.bar.inc(amount);
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| out::note(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_work_is() {
        let mut state = State {
            hidden_until: None,
            line: None,
            phase: "chunks".into(),
            unit: Unit::Bytes,
            total: 4 << 30,
            done: 1 << 30,
        };
        assert_eq!(state.text(), "chunks: 1.00 GiB of 4.00 GiB (25%)");
        (state.unit, state.total, state.done) = (Unit::Items, 0, 1234);
        assert_eq!(state.text(), "chunks: 1,234");
        (state.total, state.done) = (u64::MAX, u64::MAX);
        assert!(state.text().ends_with("(100%)"), "{}", state.text());
    }
}
