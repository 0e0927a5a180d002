// SPDX-License-Identifier: Apache-2.0
//! Who fetches what is read. It may be killed at any moment: a chunk that was not recorded is fetched again, and a read
//! that was not answered is told to the next worker.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::known::{Files, Known};
use super::listen::{Address, Listener};
use super::log::{Log, Names};
use super::metrics::{self, Waits};
use super::wire::{self, Verdict};
use crate::base::progress::Progress;
use crate::layout::Layout;
use crate::lazy::first::First;
use crate::lazy::{Engine, Origins, Pace, Told};

/// Threads that fetch: more requests than that wait for each other.
const THREADS: usize = 10;
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often what was written is brought to the disk, and new packs are looked for.
const KEEP: Duration = Duration::from_secs(2);
/// How often who listens looks whether it is to end.
const LISTEN: Duration = Duration::from_millis(500);

/// What becomes of a read whose chunk nobody gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails (`EIO`) after this time.
    Error(Duration),
    /// It waits, and can be killed.
    Wait,
}

/// What the user chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// What becomes of a read whose chunk nobody gives.
    pub on_failure: OnFailure,
    /// Whether what nobody reads is fetched as well.
    pub fill: bool,
    /// Bytes of that in a second, if it is not to be as many as come.
    pub rate: Option<u64>,
    /// Where numbers are asked for.
    pub metrics: Option<Address>,
    /// Workers that have ended before this one.
    pub restarts: u64,
}

/// Sees to the reads that come through `socket`, until its other end is closed.
///
/// # Errors
///
/// If the supervisor says what it should not.
pub fn work(
    socket: &OwnedFd,
    layouts: &[Layout],
    origins: Origins,
    options: Options,
    progress: &(dyn Progress + Send + Sync),
) -> crate::Result<()> {
    let (answers, log) = (socket.try_clone()?, Arc::new(Log::default()));
    let (noted, waits) = (Arc::clone(&log), Arc::new(Waits::default()));
    let waited = Arc::clone(&waits);
    let engine = Engine::new(layouts, origins, false, move |told| {
        // Nobody hears any more: this one ends with that.
        let _ = match told {
            Told::Ready(id) => {
                waited.end(id, true);
                wire::say(&answers, id, Verdict::Allow)
            }
            Told::Late(id) => {
                waited.end(id, false);
                wire::say(&answers, id, Verdict::Fail)
            }
            Told::Trouble(pack, error) => {
                noted.add(Some(pack), format!("{error:#}"));
                Ok(())
            }
            Told::Full(error) => {
                let text = "nothing is fetched until there is space";
                noted.add(error.fault().digest, format!("{error:#}; {text}"));
                Ok(())
            }
            Told::Space => {
                noted.add(None, "there is space again".into());
                Ok(())
            }
            Told::Came(_) => Ok(()),
        };
    });
    let engine = engine.at(Pace::new(options.rate));
    let listener = options.metrics.as_ref().map(Listener::new).transpose();
    let listener = listener.unwrap_or_else(|error| {
        // Readers are more than numbers.
        log.add(None, format!("{error:#}"));
        None
    });
    let known = (&Files::default(), &First::default());
    if options.fill {
        engine.fill();
    }
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| engine.run());
        }
        if let Some(listener) = &listener {
            scope.spawn(|| answer(listener, &engine, &waits, layouts, options.restarts));
        }
        let tick = scope.spawn(|| tick(&engine, known, layouts, &options, &log, progress));
        let done = serve(socket, layouts, &engine, known, (&log, &waits));
        engine.stop();
        tick.thread().unpark();
        done
    })
}

/// Answers who asks for numbers, until the engine is stopped.
fn answer(
    listener: &Listener,
    engine: &Engine<'_>,
    waits: &Waits,
    layouts: &[Layout],
    restarts: u64,
) {
    while !engine.is_stopped() {
        listener.answer(LISTEN, |is_status| match is_status {
            true => serde_json::to_vec(&metrics::doing(engine, layouts)).unwrap_or_default(),
            false => metrics::text(engine, waits, restarts).into_bytes(),
        });
    }
}

fn serve(
    socket: &OwnedFd,
    layouts: &[Layout],
    engine: &Engine<'_>,
    (files, first): (&Files, &First),
    (log, waits): (&Log, &Waits),
) -> crate::Result<()> {
    while let Some((id, range, file)) = wire::asked(socket)? {
        waits.begin(id);
        let known = files.of(&File::from(file), layouts, engine);
        // Before what is read is wanted: its image may list what is read next.
        log.add_all(&first.look(layouts, engine));
        let verdict = match known {
            Ok(Known::Pack(number)) if engine.is_whole(number) => Some(Verdict::Ignore),
            Ok(Known::Pack(number)) => engine.want(number, &range, id).then_some(Verdict::Allow),
            Ok(Known::Whole) => Some(Verdict::Ignore),
            Ok(Known::Other) => Some(Verdict::Allow),
            Err(error) => {
                log.add(None, format!("{error:#}"));
                Some(Verdict::Fail)
            }
        };
        if let Some(verdict) = verdict {
            match verdict {
                Verdict::Fail => waits.end(id, false),
                Verdict::Allow | Verdict::Ignore => waits.none(id),
            }
            wire::say(socket, id, verdict)?;
        }
    }
    Ok(())
}

/// Does what is to be done from time to time, until the engine is stopped.
fn tick(
    engine: &Engine<'_>,
    (files, first): (&Files, &First),
    layouts: &[Layout],
    options: &Options,
    log: &Log,
    progress: &dyn Progress,
) {
    let (mut kept, mut names): (Option<Instant>, _) = (None, Names::default());
    while !engine.is_stopped() {
        if let OnFailure::Error(timeout) = options.on_failure {
            engine.expire(timeout);
        }
        if kept.is_none_or(|kept| kept.elapsed() >= KEEP) {
            kept = Some(Instant::now());
            for layout in layouts {
                log.add_all(&files.look(layout, engine));
            }
            log.add_all(&first.look(layouts, engine));
            engine.keep_or_tell();
            files.release(engine);
        }
        log.say(&mut names, layouts, progress);
        thread::park_timeout(TICK);
    }
    // What cannot be kept now is fetched again.
    let _ = engine.keep_all();
    log.say(&mut names, layouts, progress);
}
