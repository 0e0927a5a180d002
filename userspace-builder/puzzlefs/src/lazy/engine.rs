// SPDX-License-Identifier: Apache-2.0
//! Who wants which chunks, and who fetches them: many readers of one chunk cost one request, and neighbours come
//! together.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use puzzlefs_format::Digest;

use super::claims::Claims;
use super::counts::Counts;
use super::fetch::{self, Supply};
use super::neighbours::Neighbours;
use super::origins::Origins;
use super::pace::{is_full, Pace, Rate};
use super::pack::Pack;
use super::queue::{Queue, Span};
use crate::base::error::{Error, Result};
use crate::layout::Layout;

/// Requests that are under way at once.
pub const AT_ONCE: usize = 10;
/// Those of them that nobody waits for.
const FILLERS: usize = 4;
/// Bytes of a pack that are brought to the disk at once, while it is filled.
const SYNC: u64 = 8 << 20;
/// For how long a request leaves its chunks to one of another pack: that one's source is no other image's trouble.
const PATIENCE: Duration = Duration::from_secs(2);
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
    /// Something failed with a pack, and is tried again.
    Trouble(Digest, Error),
    /// There is no space on the disk: this is said once, until there is.
    Full(Error),
    /// There is space again.
    Space,
}

/// A request that is under way.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// The pack.
    pub pack: Digest,
    /// Its chunks.
    pub chunks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether nobody waits for it.
    pub is_fill: bool,
}

/// Packs that are filled.
pub struct Engine<'a> {
    supply: Supply<'a>,
    /// Those that are to be filled, by their numbers. One that is done is kept open by nobody here.
    packs: Mutex<Vec<Option<Arc<Pack>>>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Whether what nobody waits for is fetched as well.
    fills: AtomicBool,
    /// Whether threads end where there is nothing to do, and at the first error.
    ends: bool,
    stopped: AtomicBool,
    pace: Pace,
    under_way: Mutex<BTreeMap<u64, UnderWay>>,
    begun: AtomicU64,
    claims: Claims,
    tell: Box<dyn Fn(Told) + Send + Sync>,
}

impl<'a> Engine<'a> {
    /// One without packs, which copies chunks from other packs of `layouts`, and asks `origins` for the others. With
    /// `ends` it runs until there is nothing to do.
    pub fn new(
        layouts: &'a [Layout],
        origins: Origins,
        ends: bool,
        tell: impl Fn(Told) + Send + Sync + 'static,
    ) -> Self {
        Engine {
            supply: Supply {
                neighbours: Neighbours::of(layouts),
                origins,
                counts: Counts::default(),
            },
            packs: Mutex::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            fills: AtomicBool::new(false),
            ends,
            stopped: AtomicBool::new(false),
            pace: Pace::default(),
            under_way: Mutex::default(),
            begun: AtomicU64::new(0),
            claims: Claims::default(),
            tell: Box::new(tell),
        }
    }

    /// The same, but with another pace.
    pub fn at(mut self, pace: Pace) -> Self {
        self.queue().limit_all(pace.rate());
        self.pace = pace;
        self
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
    pub fn pack(&self, number: usize) -> Option<Arc<Pack>> {
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

    /// Has the packs that come wait for [`Self::limit`], as far as nobody reads them.
    pub fn hold(&self) {
        self.queue().hold();
    }

    /// What nobody waits for comes, of each pack, by the rate that `of` gives for it, or as it comes.
    pub fn limit(&self, of: impl Fn(&Pack) -> Option<Arc<Rate>>) {
        let packs = self.packs();
        let mut queue = self.queue();
        for (number, pack) in packs.iter().enumerate() {
            if let Some(pack) = pack {
                queue.limit(number, of(pack));
            }
        }
        drop(queue);
        self.wake.notify_all();
    }

    /// Wants some bytes of a pack for `waiter`; whether they are there. If not, it is told when they are.
    pub fn want(&self, pack: usize, bytes: &Range<u64>, waiter: u64) -> bool {
        match self.pack(pack) {
            Some(it) => self.want_chunks(pack, it.chunks_read(bytes), waiter),
            None => true,
        }
    }

    /// The same of chunks by their numbers.
    pub fn want_chunks(&self, pack: usize, chunks: Range<usize>, waiter: u64) -> bool {
        let is_here = self.queue().want(pack, chunks, waiter);
        self.wake.notify_all();
        is_here
    }

    /// One who waits has gone: it is told of nothing.
    pub fn leave(&self, waiter: u64) {
        self.queue().leave(waiter);
    }

    /// Whether a chunk of a pack was written.
    pub fn has(&self, pack: usize, chunk: usize) -> bool {
        self.queue().has(pack, chunk)
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
            let Some(pack) = self.pack(span.pack) else {
                self.queue().ended(span, true);
                continue;
            };
            let number = span.pack;
            let fetched = self.fetch(&pack, &span);
            let is_done = fetched.is_ok();
            self.queue().ended(span, is_done);
            self.wake.notify_all();
            let kept = self.keep(number, SYNC);
            match fetched.and(kept) {
                Ok(()) => {}
                Err(error) if self.ends => {
                    self.stop();
                    return Err(error);
                }
                Err(error) => self.trouble(&pack.digest, error),
            }
        }
        Ok(())
    }

    fn fetch(&self, pack: &Pack, span: &Span) -> Result<()> {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let sizes = span.chunks.clone().filter_map(|it| pack.chunk(it));
        let under_way = UnderWay {
            pack: pack.digest,
            chunks: span.chunks.len(),
            bytes: sizes.map(|chunk| u64::from(chunk.size)).sum(),
            is_fill: span.is_fill(),
        };
        self.all_under_way().insert(begun, under_way);
        let mut here = |chunk: usize| {
            self.pace.written(|| (self.tell)(Told::Space));
            let ready = self.queue().here(span.pack, chunk);
            ready
                .into_iter()
                .for_each(|waiter| (self.tell)(Told::Ready(waiter)));
            let bytes = pack.chunk(chunk).map_or(0, |chunk| chunk.size.into());
            (self.tell)(Told::Came(bytes));
        };
        let filled = self.filled();
        let is_here = |layout: &Layout, digest: &Digest, offset: u32| {
            let mut same = filled.get(digest).into_iter().flatten();
            let (number, other) = same.find(|(_, other)| other.is(layout, digest))?;
            let chunk = other.chunk_at(offset)?;
            Some(self.queue().has(*number, chunk))
        };
        let mut told = fetch::Told {
            here: &mut here,
            trouble: &mut |error| self.trouble(&pack.digest, error),
            fetched: 0,
        };
        let chunks = || span.chunks.clone();
        let digests = chunks().filter_map(|it| Some((it, pack.chunk(it)?.digest)));
        let (claim, others) = self.claims.claim(digests);
        let mut fetched = self
            .supply
            .fetch(pack, chunks(), &others, &is_here, &mut told);
        // Before it is waited for others, who may wait for this.
        drop(claim);
        if fetched.is_ok() && !others.is_empty() {
            let digests = others.iter().filter_map(|it| Some(pack.chunk(*it)?.digest));
            self.claims.wait(&digests.collect::<Vec<_>>(), PATIENCE);
            let leave = chunks().filter(|it| !others.contains(it)).collect();
            fetched = self
                .supply
                .fetch(pack, chunks(), &leave, &is_here, &mut told);
        }
        if span.is_fill() {
            self.pace.spend(told.fetched);
        }
        self.all_under_way().remove(&begun);
        fetched
    }

    /// Says what went wrong with a pack. That the disk is full is said once.
    fn trouble(&self, pack: &Digest, error: Error) {
        if !is_full(&error) {
            (self.tell)(Told::Trouble(*pack, error));
        } else {
            self.pace.full(|| (self.tell)(Told::Full(error)));
        }
    }

    fn all_under_way(&self) -> MutexGuard<'_, BTreeMap<u64, UnderWay>> {
        // It is whole between any two statements.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests that are under way, the oldest first.
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.all_under_way().values().cloned().collect()
    }

    /// When it fetches.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The packs that are filled, by their names.
    fn filled(&self) -> HashMap<Digest, Vec<(usize, Arc<Pack>)>> {
        let mut filled: HashMap<_, Vec<_>> = HashMap::new();
        for (number, pack) in self.packs().iter().enumerate() {
            if let Some(pack) = pack {
                let same = filled.entry(pack.digest).or_default();
                same.push((number, Arc::clone(pack)));
            }
        }
        filled
    }

    /// What came from where.
    pub fn counts(&self) -> &Counts {
        &self.supply.counts
    }

    /// What to fetch, once there is something.
    fn next(&self) -> Option<Span> {
        let mut queue = self.queue();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let most = match (self.fills.load(Ordering::Relaxed), self.ends) {
                (false, _) => 0,
                (true, false) => self.pace.fillers(FILLERS),
                (true, true) => AT_ONCE,
            };
            // Who waits for all of it starts nothing meanwhile.
            let fillers = match self.ends {
                true => most,
                false => queue.fillers(most),
            };
            let may_fetch = self.ends || self.pace.may_fetch();
            if let Some(span) = may_fetch.then(|| queue.next(most > 0, fillers)).flatten() {
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
        if let Err(error) = pack.sync() {
            self.queue().lost(number, &chunks);
            return Err(error);
        }
        let recorded = pack.record(&chunks);
        let is_last = self.queue().kept(number, &chunks, recorded.is_ok());
        recorded?;
        match is_last {
            true => pack.finish(),
            false => Ok(()),
        }
    }

    /// Records what was written of all packs, and ends those of which all is recorded: who began that may have died. What
    /// went wrong is told.
    pub fn keep_or_tell(&self) {
        let count = self.packs().len();
        for number in 0..count {
            if let (Err(error), Some(pack)) = (self.keep_pack(number), self.pack(number)) {
                self.trouble(&pack.digest, error);
            }
        }
    }

    /// The same, of all before an error is returned.
    pub fn keep_all(&self) -> Result<()> {
        let count = self.packs().len();
        let kept: Vec<Result<()>> = (0..count).map(|it| self.keep_pack(it)).collect();
        kept.into_iter().collect()
    }

    fn keep_pack(&self, number: usize) -> Result<()> {
        self.keep(number, 0)?;
        match self.pack(number).filter(|_| self.is_whole(number)) {
            Some(pack) => pack.finish(),
            None => Ok(()),
        }
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

    /// How many wait, how many requests are under way, how many are to come.
    pub fn depth(&self) -> (usize, usize, usize) {
        self.queue().depth()
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
