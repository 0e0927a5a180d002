// SPDX-License-Identifier: Apache-2.0
//! Who fetches what is read. It may be killed at any moment: a chunk that was not recorded is fetched again, and a read
//! that was not answered is told to the next worker.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::known::{Files, Known};
use super::wire::{self, Verdict};
use crate::base::progress::Progress;
use crate::layout::Layout;
use crate::lazy::first::First;
use crate::lazy::{Engine, Origins, Told};

/// Threads that fetch: more requests than that wait for each other.
const THREADS: usize = 10;
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often what was written is brought to the disk, and new packs are looked for.
const KEEP: Duration = Duration::from_secs(2);
/// A line that was said is not said again for so long.
const SAME: Duration = Duration::from_secs(10);

/// What becomes of a read whose chunk nobody gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails (`EIO`) after this time.
    Error(Duration),
    /// It waits, and can be killed.
    Wait,
}

/// What the user chooses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What becomes of a read whose chunk nobody gives.
    pub on_failure: OnFailure,
    /// Whether what nobody reads is fetched as well.
    pub fill: bool,
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
    let noted = Arc::clone(&log);
    let engine = Engine::new(origins, false, move |told| {
        // Nobody hears any more: this one ends with that.
        let _ = match told {
            Told::Ready(id) => wire::say(&answers, id, Verdict::Allow),
            Told::Late(id) => wire::say(&answers, id, Verdict::Fail),
            Told::Trouble(error) => {
                noted.add(format!("{error:#}"));
                Ok(())
            }
            Told::Came(_) => Ok(()),
        };
    });
    let (files, first) = (Files::default(), First::default());
    if options.fill {
        engine.fill();
    }
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| engine.run());
        }
        let tick =
            scope.spawn(|| tick(&engine, (&files, &first), layouts, options, &log, progress));
        let done = serve(socket, layouts, &engine, (&files, &first), &log);
        engine.stop();
        tick.thread().unpark();
        done
    })
}

fn serve(
    socket: &OwnedFd,
    layouts: &[Layout],
    engine: &Engine,
    (files, first): (&Files, &First),
    log: &Log,
) -> crate::Result<()> {
    while let Some((id, range, file)) = wire::asked(socket)? {
        let known = files.of(&File::from(file), layouts, engine);
        // Before what is read is wanted: its image may list what is read next.
        log.add_all(&first.look(layouts, engine));
        let verdict = match known {
            Ok(Known::Pack(number)) if engine.is_whole(number) => Some(Verdict::Ignore),
            Ok(Known::Pack(number)) => engine.want(number, &range, id).then_some(Verdict::Allow),
            Ok(Known::Whole) => Some(Verdict::Ignore),
            Ok(Known::Other) => Some(Verdict::Allow),
            Err(error) => {
                log.add(format!("{error:#}"));
                Some(Verdict::Fail)
            }
        };
        if let Some(verdict) = verdict {
            wire::say(socket, id, verdict)?;
        }
    }
    Ok(())
}

/// Does what is to be done from time to time, until the engine is stopped.
fn tick(
    engine: &Engine,
    (files, first): (&Files, &First),
    layouts: &[Layout],
    options: Options,
    log: &Log,
    progress: &dyn Progress,
) {
    let mut kept: Option<Instant> = None;
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
            if let Err(error) = engine.keep_all() {
                log.add(format!("{error:#}"));
            }
            files.release(engine);
        }
        log.say(progress);
        thread::park_timeout(TICK);
    }
    // What cannot be kept now is fetched again.
    let _ = engine.keep_all();
    log.say(progress);
}

/// Lines for people, each once in a while.
#[derive(Default)]
struct Log(Mutex<(Lines, Said)>);

/// What is to be said, and what was said when.
type Lines = Vec<String>;
type Said = Vec<(Instant, String)>;

impl Log {
    fn add_all(&self, faults: &[crate::Error]) {
        let lines = faults.iter().map(|fault| format!("{fault:#}"));
        lines.for_each(|line| self.add(line));
    }

    fn add(&self, line: String) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, said) = &mut *log;
        said.retain(|(when, _)| when.elapsed() < SAME);
        if !said.iter().any(|(_, known)| *known == line) {
            said.push((Instant::now(), line.clone()));
            lines.push(line);
        }
    }

    fn say(&self, progress: &dyn Progress) {
        let lines = {
            let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut log.0)
        };
        lines.iter().for_each(|line| progress.note(line));
    }
}
