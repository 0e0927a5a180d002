// SPDX-License-Identifier: Apache-2.0
//! What an engine that serves readers needs from time to time.

use std::thread;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::log::{Log, Names};
use crate::base::progress::Progress;
use crate::layout::Layout;

/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often what was written is brought to the disk, and new packs are looked for.
const KEEP: Duration = Duration::from_secs(2);

/// What becomes of a read whose chunk nobody gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails (`EIO`) after this time.
    Error(Duration),
    /// It waits, and can be killed.
    Wait,
}

/// Until the engine is stopped, calls `look` now and then, which has what was written kept, tells those who have waited for
/// too long, and says what is in the log, with the images of these layouts that it is about.
pub fn tend(
    engine: &Engine<'_>,
    on_failure: OnFailure,
    (log, layouts): (&Log, &[Layout]),
    progress: &dyn Progress,
    look: impl Fn(),
) {
    let (mut looked, mut names): (Option<Instant>, _) = (None, Names::default());
    while !engine.is_stopped() {
        if let OnFailure::Error(timeout) = on_failure {
            engine.expire(timeout);
        }
        if looked.is_none_or(|looked| looked.elapsed() >= KEEP) {
            looked = Some(Instant::now());
            look();
        }
        log.say(&mut names, layouts, progress);
        thread::park_timeout(TICK);
    }
    // What cannot be kept now is fetched again.
    let _ = engine.keep_all();
    log.say(&mut names, layouts, progress);
}
