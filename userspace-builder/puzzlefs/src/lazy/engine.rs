// SPDX-License-Identifier: Apache-2.0
//! Who wants which chunks, and who fetches them: many readers of one chunk cost one request, and neighbours come
//! together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use std::ops::Range;

use puzzlefs_format::Digest;

use super::fetch::fetch;
use super::origins::Origins;
use super::pack::Pack;
use super::queue::{Queue, Span};
use crate::base::error::{Error, Result};

/// Requests that are under way at once.
pub const AT_ONCE: usize = 10;
/// Those of them that nobody waits for.
const FILLERS: usize = 4;
/// Bytes of a pack that are brought to the disk at once, while it is filled.
const SYNC: u64 = 8 << 20;
/// How often who has nothing to do looks whether there is something.
const LOOK: Duration = Duration::from_millis(100);

/// What is said of what happens.
#[derive(Debug)]
pub enum Told {
    /// What this one has waited for is there.
    Ready(u64),
    /// It has waited for too long.
    Late(u64),
    /// Some bytes came.
    Came(u64),
    /// Something failed, and is tried again.
    Trouble(Error),
}

/// Packs that are filled.
pub struct Engine {
    origins: Origins,
    /// Those that are to be filled, by their numbers. One that is done is kept open by nobody here.
    packs: Mutex<Vec<Option<Arc<Pack>>>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Whether what nobody waits for is fetched as well.
    fills: AtomicBool,
    /// Whether threads end where there is nothing to do, and at the first error.
    ends: bool,
    stopped: AtomicBool,
    requests: AtomicU64,
    tell: Box<dyn Fn(Told) + Send + Sync>,
}

impl Engine {
    /// One without packs. With `ends` it runs until there is nothing to do.
    pub fn new(origins: Origins, ends: bool, tell: impl Fn(Told) + Send + Sync + 'static) -> Self {
        Engine {
            origins,
            packs: Mutex::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            fills: AtomicBool::new(false),
            ends,
            stopped: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            tell: Box::new(tell),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // It is whole between any two of its methods.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pack more; its number.
    pub fn add(&self, pack: Pack) -> usize {
        let mut packs = self.packs();
        let number = self.queue().add(&pack);
        packs.push(Some(Arc::new(pack)));
        drop(packs);
        self.wake.notify_all();
        number
    }

    fn packs(&self) -> MutexGuard<'_, Vec<Option<Arc<Pack>>>> {
        // It is whole between any two statements.
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pack of this number, as [`Self::add`] gave it; `None` if it was released.
    fn pack(&self, number: usize) -> Option<Arc<Pack>> {
        self.packs().get(number).cloned().flatten()
    }

    /// Whether a pack is done, so that it may be released.
    pub fn is_done(&self, number: usize) -> bool {
        self.pack(number).is_none_or(|pack| pack.is_done())
    }

    /// Closes a pack that is done: who removes it gets its space back. Nobody may ask for it afterwards.
    pub fn release(&self, number: usize) {
        if let Some(pack) = self.packs().get_mut(number) {
            *pack = None;
        }
        self.queue().forget(number);
    }

    /// Also fetches what nobody waits for.
    pub fn fill(&self) {
        self.fills.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// Wants some bytes of a pack for `waiter`; whether they are there. If not, it is told when they are.
    pub fn want(&self, pack: usize, bytes: &Range<u64>, waiter: u64) -> bool {
        let Some(chunks) = self.pack(pack).map(|pack| pack.chunks_in(bytes)) else {
            return true;
        };
        let is_here = self.queue().want(pack, chunks, waiter);
        self.wake.notify_all();
        is_here
    }

    /// Takes what images list as the chunks that are read first, the newest image first, in place of what was known: of
    /// each the digest of its manifest, and the chunks. What is in no pack here, or is there, is left out.
    pub fn list(&self, images: Vec<(Digest, Vec<Digest>)>) {
        let wanted = images.iter().flat_map(|(_, chunks)| chunks);
        let mut places: HashMap<Digest, Option<(usize, usize)>> = HashMap::new();
        places.extend(wanted.map(|chunk| (*chunk, None)));
        let packs: Vec<(usize, Arc<Pack>)> = {
            let packs = self.packs();
            let packs = packs.iter().enumerate();
            packs
                .filter_map(|(number, pack)| Some((number, Arc::clone(pack.as_ref()?))))
                .collect()
        };
        for (number, pack) in &packs {
            for (chunk, entry) in pack.end.entries.iter().enumerate() {
                if let Some(place) = places.get_mut(&entry.digest) {
                    place.get_or_insert((*number, chunk));
                }
            }
        }
        let place = |chunk: &Digest| places.get(chunk).copied().flatten();
        let lists = images.into_iter().map(|(image, chunks)| {
            let chunks = chunks.iter().filter_map(place);
            (image, chunks.collect::<Vec<_>>())
        });
        let lists = lists.collect();
        let mut queue = self.queue();
        let Queue {
            packs,
            lists: known,
            ..
        } = &mut *queue;
        known.replace(packs, lists);
        drop(queue);
        self.wake.notify_all();
    }

    /// Asks for all that is listed, before what is asked for later.
    pub fn ask_listed(&self) {
        self.queue().ask_listed();
        self.wake.notify_all();
    }

    /// How many packs it has ever had.
    pub fn count(&self) -> usize {
        self.packs().len()
    }

    /// Asks for a chunk of a pack, for nobody.
    pub fn ask(&self, pack: usize, chunks: Range<usize>) {
        self.queue().ask(pack, chunks, 0);
        self.wake.notify_all();
    }

    /// Fetches, in this thread beside others, until it is stopped.
    ///
    /// # Errors
    ///
    /// The first one, if it is one that ends.
    pub fn run(&self) -> Result<()> {
        while let Some(span) = self.next() {
            let number = span.pack;
            let Some(pack) = self.pack(number) else {
                self.queue().ended(span, true);
                continue;
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let mut here = |chunk: usize| {
                let ready = self.queue().here(number, chunk);
                ready
                    .into_iter()
                    .for_each(|waiter| (self.tell)(Told::Ready(waiter)));
                let bytes = pack.chunk(chunk).map_or(0, |chunk| chunk.size.into());
                (self.tell)(Told::Came(bytes));
            };
            let fetched = fetch(&self.origins, &pack, span.chunks.clone(), &mut here);
            let is_done = fetched.is_ok();
            self.queue().ended(span, is_done);
            self.wake.notify_all();
            let kept = self.keep(number, SYNC);
            let failed = fetched.map(drop).and(kept);
            match failed {
                Ok(()) => {}
                Err(error) if self.ends => {
                    self.stop();
                    return Err(error);
                }
                Err(error) => (self.tell)(Told::Trouble(error)),
            }
        }
        Ok(())
    }

    /// What to fetch, once there is something.
    fn next(&self) -> Option<Span> {
        let mut queue = self.queue();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let fillers = match (self.fills.load(Ordering::Relaxed), self.ends) {
                (false, _) => 0,
                (true, false) => FILLERS,
                (true, true) => AT_ONCE,
            };
            if let Some(span) = queue.next(fillers) {
                return Some(span);
            }
            if self.ends && queue.is_idle() {
                return None;
            }
            let waited = self.wake.wait_timeout(queue, LOOK);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Brings what was written of a pack to the disk, if it is `least` bytes or the last, and records it.
    fn keep(&self, number: usize, least: u64) -> Result<()> {
        let chunks = self.queue().take_written(number, least);
        if chunks.is_empty() {
            return Ok(());
        }
        let Some(pack) = self.pack(number) else {
            return Ok(());
        };
        let synced = pack.sync(&chunks);
        let is_last = self.queue().kept(number, &chunks, synced.is_ok());
        synced?;
        match is_last {
            true => pack.finish(),
            false => Ok(()),
        }
    }

    /// Records what was written of all packs, and ends those of which all is recorded: who began that may have died.
    pub fn keep_all(&self) -> Result<()> {
        let count = self.packs().len();
        let keep = |number| {
            self.keep(number, 0)?;
            match self.pack(number).filter(|_| self.is_whole(number)) {
                Some(pack) => pack.finish(),
                None => Ok(()),
            }
        };
        // Of all, before an error is returned.
        let kept: Vec<Result<()>> = (0..count).map(keep).collect();
        kept.into_iter().collect()
    }

    /// Tells those who have waited for longer than `timeout`.
    pub fn expire(&self, timeout: Duration) {
        let late = self.queue().expired(timeout);
        late.into_iter()
            .for_each(|waiter| (self.tell)(Told::Late(waiter)));
    }

    /// Whether a pack is there as a whole, by its number.
    pub fn is_whole(&self, number: usize) -> bool {
        self.queue().is_whole(number)
    }

    /// How many wait, how many requests are under way, how many are to come, how many there were.
    pub fn depth(&self) -> (usize, usize, usize, u64) {
        let (waiting, under_way, to_come) = self.queue().depth();
        (
            waiting,
            under_way,
            to_come,
            self.requests.load(Ordering::Relaxed),
        )
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends all threads that run it, when what they do is done.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }
}
