// SPDX-License-Identifier: Apache-2.0
//! An engine for readers in threads of this process: they wait for what they read, each for itself.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use puzzlefs_format::Digest;

use super::engine::{Engine, AT_ONCE};
use super::log::Log;
use super::origins::Origins;
use super::pace::Pace;
use super::pack::Pack;
use super::tend::{tend, OnFailure};
use super::waits::Waits;
use crate::base::error::Result;
use crate::base::progress::Progress;
use crate::layout::Layout;

/// How often it is looked whether who waits has gone.
const LOOK: Duration = Duration::from_millis(300);
/// Who ends waits for requests that are under way for so long, and looks so often whether they have ended.
const LAST: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(5);

/// What the user chooses.
pub struct Options {
    /// Where chunks come from.
    pub origins: Origins,
    /// What becomes of a read whose chunk nobody gives.
    pub on_failure: OnFailure,
    /// Whether what nobody reads is fetched as well.
    pub fill: bool,
    /// Bytes of that in a second, if it is not to be as many as come.
    pub rate: Option<u64>,
}

/// Whether who reads waits.
pub enum Patience<'a> {
    /// It does not.
    None,
    /// It does, until this says that it has gone.
    Until(&'a dyn Fn() -> bool),
}

/// Why chunks are not there that somebody has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nobody has waited for them.
    Later,
    /// Who has asked has gone meanwhile.
    Left,
    /// No source gave them in time.
    Late,
}

/// Such an engine. It fetches until [`Self::end`].
pub struct Fetcher {
    engine: Engine<'static>,
    waits: Arc<Waits>,
    packs: usize,
    /// Threads that have not ended.
    at_work: AtomicUsize,
}

impl Fetcher {
    /// Begins. Chunks of `packs` are fetched, whose numbers are their places; those that an image lists as the first ones,
    /// with the digest of its manifest, when one of them is read. Other packs of `layouts` are copied from. What people
    /// are to know goes to `notes`.
    ///
    /// # Errors
    ///
    /// If there is no memory, or no leave, for its threads.
    pub fn start(
        layouts: &'static [Layout],
        packs: Vec<Pack>,
        first: Option<(Digest, Vec<Digest>)>,
        options: Options,
        notes: impl Progress + Send + 'static,
    ) -> Result<Arc<Self>> {
        let (log, waits) = (Arc::new(Log::default()), Arc::new(Waits::default()));
        let (noted, waited) = (Arc::clone(&log), Arc::clone(&waits));
        let engine = Engine::new(layouts, options.origins, false, move |told| {
            if let Some((reader, is_there)) = noted.told(told) {
                waited.end(reader, is_there);
            }
        });
        let engine = engine.at(Pace::new(options.rate));
        let fetcher = Arc::new(Fetcher {
            engine,
            waits,
            packs: packs.len(),
            at_work: AtomicUsize::new(0),
        });
        let engine = &fetcher.engine;
        packs.into_iter().for_each(|pack| {
            engine.add(pack);
        });
        engine.list(first.into_iter().collect());
        if options.fill {
            engine.fill();
        }
        let begin = || -> io::Result<()> {
            for _ in 0..AT_ONCE {
                let fetcher = Arc::clone(&fetcher);
                fetcher.at_work.fetch_add(1, Ordering::Release);
                let run = move || {
                    // One that does not end has no errors to return.
                    let _ = fetcher.engine.run();
                    fetcher.at_work.fetch_sub(1, Ordering::Release);
                };
                thread::Builder::new().spawn(run)?;
            }
            let (own, on_failure) = (Arc::clone(&fetcher), options.on_failure);
            let tend = move || {
                let look = || own.look();
                tend(&own.engine, on_failure, (&log, layouts), &notes, look);
            };
            thread::Builder::new().spawn(tend).map(drop)
        };
        if let Err(error) = begin() {
            fetcher.engine.stop();
            let error = anyhow::Error::from(error).context("starting the threads that fetch");
            return Err(error.into());
        }
        Ok(fetcher)
    }

    fn look(&self) {
        self.engine.keep_or_tell();
        for number in 0..self.packs {
            if self.engine.pack(number).is_some_and(|pack| pack.is_done()) {
                self.engine.release(number);
            }
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<'static> {
        &self.engine
    }

    /// Sees to it that chunks are there, each given as the number of its pack and its own, in any order. Those that are not
    /// are asked for at once, and waited for together; without patience they are not asked for either.
    ///
    /// # Errors
    ///
    /// Why one of them is not there, and which.
    pub fn bring(
        &self,
        chunks: impl IntoIterator<Item = (usize, usize)>,
        patience: &Patience<'_>,
    ) -> Result<(), ((usize, usize), Absent)> {
        let mut missing: Vec<(usize, Range<usize>)> = Vec::new();
        let mut chunks: Vec<_> = chunks.into_iter().collect();
        chunks.sort_unstable();
        for (pack, chunk) in chunks {
            if self.engine.has(pack, chunk) {
                continue;
            }
            match missing.last_mut() {
                Some((last, run)) if *last == pack && chunk <= run.end => {
                    run.end = run.end.max(chunk + 1);
                }
                _ => missing.push((pack, chunk..chunk + 1)),
            }
        }
        missing.retain(|(pack, _)| {
            let pack = self.engine.pack(*pack);
            pack.is_some_and(|pack| !pack.is_replaced())
        });
        let Some((pack, run)) = missing.first() else {
            return Ok(());
        };
        let Patience::Until(is_gone) = patience else {
            return Err(((*pack, run.start), Absent::Later));
        };
        let mut waiting = Vec::new();
        for (pack, run) in missing {
            let (reader, heard) = self.waits.begin();
            let at = (pack, run.start);
            match self.engine.want_chunks(pack, run, reader) {
                true => self.waits.leave(reader),
                false => waiting.push((at, reader, heard)),
            }
        }
        let mut outcome = Ok(());
        for (at, reader, heard) in waiting {
            if outcome.is_ok() {
                outcome = loop {
                    match heard.recv_timeout(LOOK) {
                        Ok(true) => break Ok(()),
                        Err(RecvTimeoutError::Timeout) if is_gone() => {
                            break Err((at, Absent::Left))
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Ok(false) | Err(RecvTimeoutError::Disconnected) => {
                            break Err((at, Absent::Late))
                        }
                    }
                };
            }
            if outcome.is_err() {
                self.waits.leave(reader);
                self.engine.leave(reader);
            }
        }
        outcome
    }

    /// Ends it: what came is recorded, and nobody is told of anything any more. Requests that are under way have a moment.
    pub fn end(&self) {
        self.engine.stop();
        let begun = Instant::now();
        while self.at_work.load(Ordering::Acquire) > 0 && begun.elapsed() < LAST {
            thread::sleep(TICK);
        }
        // What cannot be kept now is fetched again.
        let _ = self.engine.keep_all();
    }
}
