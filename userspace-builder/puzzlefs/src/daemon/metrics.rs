// SPDX-License-Identifier: Apache-2.0
//! What the daemon does, in numbers: the text format of Prometheus, and JSON for `puzzlefs status`.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::lazy::{Engine, UnderWay};

/// Bounds of the histogram, in milliseconds.
const BOUNDS: [u64; 12] = [
    1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 60_000, 300_000,
];

/// Reads that have waited.
#[derive(Default)]
pub struct Waits {
    since: Mutex<HashMap<u64, Instant>>,
    /// For each bound those that took no longer than it and longer than the one before; at the end all others.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Microseconds of all.
    sum: AtomicU64,
    /// Reads that waited for nothing.
    at_once: AtomicU64,
    /// Those that failed.
    failed: AtomicU64,
}

impl Waits {
    /// A read begins to wait.
    pub fn begin(&self, read: u64) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.insert(read, Instant::now());
    }

    /// It has waited for nothing.
    pub fn none(&self, read: u64) {
        self.took(read);
        self.at_once.fetch_add(1, Ordering::Relaxed);
    }

    /// It ends, as the bytes are there or as they did not come.
    pub fn end(&self, read: u64, is_there: bool) {
        let Some(took) = self.took(read) else { return };
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < millis);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(0);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        if !is_there {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn took(&self, read: u64) -> Option<Duration> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.remove(&read).map(|since| since.elapsed())
    }
}

/// Text that grows.
#[derive(Default)]
struct Text(String);

impl Text {
    /// What follows is a metric of this name.
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(
            self.0,
            "# HELP puzzlefs_{name} {help}\n# TYPE puzzlefs_{name} {kind}"
        );
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "puzzlefs_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.begin(name, kind, help);
        self.value(name, "", value);
    }
}

/// The metrics, as Prometheus reads them. `restarts` is how many workers there were before.
pub fn text(engine: &Engine<'_>, waits: &Waits, restarts: u64) -> String {
    let mut text = Text::default();
    let counts = engine.counts().get();
    let of =
        |text: &mut Text, name: &str, help: &str, what: fn(&crate::lazy::counts::Count) -> u64| {
            text.begin(name, "counter", help);
            for (kind, count) in &counts {
                text.value(name, &format!("{{source=\"{kind}\"}}"), what(count));
            }
        };
    of(
        &mut text,
        "chunks_total",
        "Chunks that came, by the kind of their source.",
        |it| it.chunks,
    );
    of(&mut text, "bytes_total", "Bytes of these chunks.", |it| {
        it.bytes
    });
    of(&mut text, "requests_total", "Requests to sources.", |it| {
        it.requests
    });
    of(
        &mut text,
        "request_failures_total",
        "Requests that failed.",
        |it| it.failures,
    );
    let (waiting, under_way, to_come) = engine.depth();
    text.one(
        "waiting_readers",
        "gauge",
        "Reads that wait for chunks.",
        waiting,
    );
    text.one(
        "requests_under_way",
        "gauge",
        "Requests that are under way.",
        under_way,
    );
    text.one(
        "queue_depth",
        "gauge",
        "Requests that somebody waits for and that are not made yet.",
        to_come,
    );
    let is_full = u8::from(engine.pace().is_full());
    text.one(
        "disk_full",
        "gauge",
        "1 while there is no space for chunks.",
        is_full,
    );
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    text.one(
        "reads_at_once_total",
        "counter",
        "Reads that waited for nothing.",
        get(&waits.at_once),
    );
    text.one(
        "reads_failed_total",
        "counter",
        "Reads that ended with EIO.",
        get(&waits.failed),
    );
    text.one(
        "worker_restarts_total",
        "counter",
        "Processes that fetch which have ended.",
        restarts,
    );
    text.begin(
        "wait_seconds",
        "histogram",
        "How long reads waited for chunks.",
    );
    let mut sum = 0;
    for (bound, count) in BOUNDS.iter().zip(&waits.counts) {
        sum += get(count);
        let bound = *bound as f64 / 1000.0;
        text.value("wait_seconds_bucket", &format!("{{le=\"{bound}\"}}"), sum);
    }
    sum += get(&waits.counts[BOUNDS.len()]);
    text.value("wait_seconds_bucket", "{le=\"+Inf\"}", sum);
    text.value("wait_seconds_sum", "", get(&waits.sum) as f64 / 1e6);
    text.value("wait_seconds_count", "", sum);
    text.0
}

/// What the daemon is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Doing {
    /// Its layouts.
    pub layouts: Vec<String>,
    /// Reads that wait.
    pub waiting: u64,
    /// Requests that somebody waits for and that are not made yet.
    pub to_come: u64,
    /// Whether there is no space.
    pub disk_full: bool,
    /// Requests that are under way.
    pub fetching: Vec<Fetching>,
}

/// A request that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fetching {
    /// The pack, in hexadecimal.
    pub pack: String,
    /// Its chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether somebody waits for it.
    pub is_waited_for: bool,
}

/// The same, as it is now.
pub fn doing(engine: &Engine<'_>, layouts: &[Layout]) -> Doing {
    let (waiting, _, to_come) = engine.depth();
    let canonical = |layout: &Layout| layout.path().canonicalize().unwrap_or_default();
    let fetching = |it: UnderWay| Fetching {
        pack: it.pack.to_string(),
        chunks: it.chunks as u64,
        bytes: it.bytes,
        is_waited_for: !it.is_fill,
    };
    Doing {
        layouts: layouts
            .iter()
            .map(|it| canonical(it).display().to_string())
            .collect(),
        waiting: waiting as u64,
        to_come: to_come as u64,
        disk_full: engine.pace().is_full(),
        fetching: engine.under_way().into_iter().map(fetching).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lazy::Origins;

    #[test]
    fn what_waited_is_counted_once() {
        let waits = Waits::default();
        for read in 0..3 {
            waits.begin(read);
        }
        waits.none(0);
        waits.end(1, true);
        waits.end(2, false);
        // Nobody waits for these.
        waits.end(2, false);
        waits.end(9, true);
        let layouts = Vec::new();
        let engine = Engine::new(&layouts, Origins::new(|_| unreachable!()), false, |_| ());
        engine.counts().came("node", 7);
        engine.counts().asked("s3");
        let text = text(&engine, &waits, 4);
        for line in [
            "puzzlefs_chunks_total{source=\"node\"} 1",
            "puzzlefs_bytes_total{source=\"node\"} 7",
            "puzzlefs_requests_total{source=\"s3\"} 1",
            "puzzlefs_reads_at_once_total 1",
            "puzzlefs_reads_failed_total 1",
            "puzzlefs_worker_restarts_total 4",
            "puzzlefs_wait_seconds_bucket{le=\"0.001\"} 2",
            "puzzlefs_wait_seconds_bucket{le=\"300\"} 2",
            "puzzlefs_wait_seconds_bucket{le=\"+Inf\"} 2",
            "puzzlefs_wait_seconds_count 2",
            "# TYPE puzzlefs_wait_seconds histogram",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
