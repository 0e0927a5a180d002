// SPDX-License-Identifier: Apache-2.0
//! What is fetched next. This only counts and orders: it asks nobody for anything.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::filling::{Chunk, Filling};
use super::listed::Lists;
use super::pace::{Rate, Starts};
use super::pack::Pack;

/// Bytes of a request that somebody waits for, but for a chunk that is larger.
const LARGEST: u64 = 8 << 20;
/// Bytes of one that nobody waits for: who then wants a chunk of it does not wait for long.
const LARGEST_FILL: u64 = 4 << 20;
/// Before a request that failed is made again: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Chunks of a pack that are fetched by one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The pack, by its number.
    pub pack: usize,
    /// The chunks, by their numbers.
    pub chunks: Range<usize>,
    /// How often it has failed.
    tries: u32,
    /// Whether nobody waits for it.
    fill: bool,
    /// Its bytes, if it was asked for as a profile lists it.
    listed: u64,
}

impl Span {
    /// Whether nobody waits for it, or it was asked for as a profile lists it.
    pub fn is_fill(&self) -> bool {
        self.fill || self.listed > 0
    }
}

struct Waiter {
    left: usize,
    since: Instant,
}

/// Packs, and what is to be fetched of them.
#[derive(Default)]
pub struct Queue {
    pub(super) packs: Vec<Filling>,
    /// What profiles of images list.
    pub(super) lists: Lists,
    demand: VecDeque<Span>,
    /// Those that have failed, and when they are asked for again.
    later: Vec<(Instant, Span)>,
    waiters: HashMap<u64, Waiter>,
    /// Requests under way, and those of them that nobody waits for.
    under_way: usize,
    filling: usize,
    starts: Starts,
    /// Nothing is filled before that.
    paused: Option<(Instant, u32)>,
    /// By which a pack comes before it is said whose it is.
    rate: Option<Arc<Rate>>,
    /// Bytes in a second of all that nobody waits for.
    rate_of_all: Option<u64>,
}

impl Queue {
    /// A pack more; its number.
    pub fn add(&mut self, pack: &Pack) -> usize {
        let mut filling = Filling::new(pack);
        filling.rate.clone_from(&self.rate);
        self.packs.push(filling);
        // Who brings an image is about to start it.
        self.starts.waits(Instant::now());
        self.packs.len() - 1
    }

    /// How many requests that nobody waits for may be under way, of `most`: what starts has the line for itself.
    pub fn fillers(&mut self, most: usize) -> usize {
        let now = Instant::now();
        if !self.waiters.is_empty() || self.lists.is_under_way() {
            self.starts.waits(now);
        }
        self.starts.fillers(most, now)
    }

    /// What nobody waits for of a pack that is new comes when [`Self::limit`] was called for it, and not before.
    pub fn hold(&mut self) {
        self.rate = Some(Arc::new(Rate::new(0)));
    }

    /// What nobody waits for comes by so many bytes in a second: no request has more, but for a chunk that is larger.
    pub fn limit_all(&mut self, bytes: Option<u64>) {
        self.rate_of_all = bytes;
    }

    /// What nobody waits for of a pack comes by a rate, or as it comes.
    pub fn limit(&mut self, pack: usize, rate: Option<Arc<Rate>>) {
        self.packs[pack].rate = rate;
    }

    /// Wants chunks of a pack for `waiter`; whether they are all there.
    pub fn want(&mut self, pack: usize, chunks: Range<usize>, waiter: u64) -> bool {
        // Who reads the first of those that a profile lists reads the others next.
        let begun = self.lists.begin(&self.packs, pack, chunks.clone());
        if let Some((pack, chunks)) = begun.and_then(|list| self.lists.take(&mut self.packs, list))
        {
            let span = self.listed(pack, chunks);
            self.demand.push_back(span);
        }
        let filling = &mut self.packs[pack];
        let mut left = 0;
        let mut first = None;
        for chunk in chunks.clone() {
            match filling.chunks.get(chunk) {
                None | Some(Chunk::Written | Chunk::Kept) => continue,
                Some(Chunk::Missing) => first = first.or(Some(chunk)),
                Some(Chunk::Asked) => {}
            }
            left += 1;
            filling.waiting.entry(chunk).or_default().push(waiter);
        }
        let goes_on = chunks.start <= filling.next && filling.next <= chunks.end;
        filling.ahead = match goes_on {
            true => (filling.ahead * 2).min(LARGEST),
            false => Filling::SMALLEST_AHEAD,
        };
        filling.next = chunks.end;
        if left == 0 {
            return true;
        }
        let since = Instant::now();
        self.waiters.insert(waiter, Waiter { left, since });
        if let Some(first) = first {
            let (end, ahead) = (chunks.end, self.packs[pack].ahead);
            self.ask(pack, first..end, ahead);
        }
        false
    }

    /// Asks for chunks of a pack that are missing, and for those behind them up to `ahead` bytes.
    pub fn ask(&mut self, pack: usize, chunks: Range<usize>, ahead: u64) {
        let mut at = chunks.start;
        while at < chunks.end {
            let span = self.packs[pack].take(at, chunks.end, ahead, LARGEST);
            at = span.end.max(at + 1);
            if !span.is_empty() {
                self.demand.push_back(Span {
                    pack,
                    chunks: span,
                    tries: 0,
                    fill: false,
                    listed: 0,
                });
            }
        }
    }

    /// What to fetch now. What somebody waits for comes first; then, if that is to be, what profiles list that nobody has
    /// begun; else, and by `fillers` at most, what is missing.
    pub fn next(&mut self, lists: bool, fillers: usize) -> Option<Span> {
        let now = Instant::now();
        if let Some(place) = self.later.iter().position(|(when, _)| *when <= now) {
            let (_, span) = self.later.swap_remove(place);
            self.demand.push_back(span);
        }
        if let Some(span) = self.demand.pop_front() {
            self.under_way += 1;
            return Some(span);
        }
        let is_paused = self.paused.is_some_and(|(until, _)| now < until);
        if !is_paused {
            if let Some((pack, chunks)) = self.lists.next(&mut self.packs, lists) {
                self.under_way += 1;
                return Some(self.listed(pack, chunks));
            }
        }
        if self.filling >= fillers || is_paused {
            return None;
        }
        for (pack, filling) in self.packs.iter_mut().enumerate() {
            let is_spent = filling.rate.as_ref().is_some_and(|rate| rate.is_spent());
            if filling.missing == 0 || is_spent {
                continue;
            }
            let missing = |chunk: &Chunk| *chunk == Chunk::Missing;
            let rest = filling.chunks[filling.fill_from..].iter();
            let Some(behind) = rest.clone().position(missing) else {
                filling.fill_from = filling.chunks.len();
                continue;
            };
            let first = filling.fill_from + behind;
            filling.fill_from = first;
            // A request is paid for afterwards: more than a second's worth would come at once.
            let rates = [self.rate_of_all, filling.rate.as_ref().map(|it| it.bytes())];
            let most = rates.into_iter().flatten().fold(LARGEST_FILL, u64::min);
            let chunks = filling.take(first, first + 1, most, most);
            if let Some(rate) = &filling.rate {
                let sizes = filling.sizes[chunks.clone()].iter();
                rate.spend(sizes.map(|size| u64::from(*size)).sum());
            }
            self.under_way += 1;
            self.filling += 1;
            return Some(Span {
                pack,
                chunks,
                tries: 0,
                fill: true,
                listed: 0,
            });
        }
        None
    }

    /// Chunks that a profile lists, and that were taken for a request.
    fn listed(&mut self, pack: usize, chunks: Range<usize>) -> Span {
        let sizes = &self.packs[pack].sizes[chunks.clone()];
        let listed = sizes.iter().map(|size| u64::from(*size)).sum();
        self.lists.begun(listed);
        Span {
            pack,
            chunks,
            tries: 0,
            fill: false,
            listed,
        }
    }

    /// Asks for all that profiles list, before anything else.
    pub fn ask_listed(&mut self) {
        while let Some((pack, chunks)) = self.lists.take_any(&mut self.packs) {
            let span = self.listed(pack, chunks);
            self.demand.push_back(span);
        }
    }

    /// Notes that a chunk was written; gives those who have waited for it only.
    pub fn here(&mut self, pack: usize, chunk: usize) -> Vec<u64> {
        let filling = &mut self.packs[pack];
        // A pack that is forgotten has none that is not kept.
        match filling.chunks.get_mut(chunk) {
            None | Some(Chunk::Written | Chunk::Kept) => return Vec::new(),
            Some(state) => *state = Chunk::Written,
        }
        filling.missing -= 1;
        filling.written.push(chunk);
        filling.written_bytes += u64::from(filling.sizes[chunk]);
        // The answer goes on: who waits for what is behind waits for a slow source, and not for none.
        let behind = filling.waiting.range(chunk + 1..);
        for waiter in behind.flat_map(|(_, waiters)| waiters) {
            if let Some(it) = self.waiters.get_mut(waiter) {
                it.since = Instant::now();
            }
        }
        let mut ready = Vec::new();
        for waiter in filling.waiting.remove(&chunk).unwrap_or_default() {
            if let Some(it) = self.waiters.get_mut(&waiter) {
                it.left -= 1;
                if it.left == 0 {
                    self.waiters.remove(&waiter);
                    ready.push(waiter);
                }
            }
        }
        ready
    }

    /// Notes that a request has ended.
    pub fn ended(&mut self, span: Span, is_done: bool) {
        self.under_way -= 1;
        self.filling -= usize::from(span.fill);
        let is_listed = span.listed > 0;
        if is_listed {
            self.lists.ended(span.listed, is_done);
        }
        if is_done {
            if span.fill || is_listed {
                self.paused = None;
            }
            return;
        }
        let now = Instant::now();
        if span.fill || is_listed {
            let tries = self.paused.map_or(0, |(_, tries)| tries);
            self.paused = Some((now + pause(tries), tries.saturating_add(1)));
        }
        let filling = &mut self.packs[span.pack];
        let mut wanted: Option<Range<usize>> = None;
        for chunk in span.chunks.clone() {
            if filling.chunks.get(chunk) != Some(&Chunk::Asked) {
                continue;
            }
            let waiters = filling.waiting.get(&chunk).into_iter().flatten();
            if waiters
                .into_iter()
                .any(|waiter| self.waiters.contains_key(waiter))
            {
                let start = wanted.as_ref().map_or(chunk, |wanted| wanted.start);
                wanted = Some(start..chunk + 1);
            }
        }
        for chunk in span.chunks.clone() {
            let is_wanted = wanted
                .as_ref()
                .is_some_and(|wanted| wanted.contains(&chunk));
            if filling.chunks.get(chunk) == Some(&Chunk::Asked) && !is_wanted {
                filling.chunks[chunk] = Chunk::Missing;
                filling.fill_from = filling.fill_from.min(chunk);
                filling.waiting.remove(&chunk);
            }
        }
        if let Some(chunks) = wanted {
            let again = Span {
                pack: span.pack,
                chunks,
                tries: span.tries.saturating_add(1),
                fill: false,
                listed: 0,
            };
            self.later.push((now + pause(span.tries), again));
        }
    }

    /// Those who have waited for longer than `timeout`, and wait no more.
    pub fn expired(&mut self, timeout: Duration) -> Vec<u64> {
        let late = self
            .waiters
            .iter()
            .filter(|(_, it)| it.since.elapsed() >= timeout);
        let late: Vec<u64> = late.map(|(waiter, _)| *waiter).collect();
        late.iter().for_each(|waiter| {
            self.waiters.remove(waiter);
        });
        late
    }

    /// Forgets one who waits. What it waited for is not asked for again if it does not come.
    pub fn leave(&mut self, waiter: u64) {
        self.waiters.remove(&waiter);
    }

    /// The chunks of a pack that were written and not brought to the disk, if they have so many bytes, or are the last.
    /// They count as recorded from now on.
    pub fn take_written(&mut self, pack: usize, least: u64) -> Vec<usize> {
        let filling = &mut self.packs[pack];
        if filling.written_bytes < least && filling.missing > 0 {
            return Vec::new();
        }
        filling.written_bytes = 0;
        let written = std::mem::take(&mut filling.written);
        written
            .iter()
            .for_each(|it| filling.chunks[*it] = Chunk::Kept);
        written
    }

    /// Notes that chunks that were taken are recorded, or could not be; whether all are now that the pack has.
    pub fn kept(&mut self, pack: usize, chunks: &[usize], is_done: bool) -> bool {
        let filling = &mut self.packs[pack];
        if !is_done {
            for chunk in chunks {
                filling.chunks[*chunk] = Chunk::Written;
                filling.written.push(*chunk);
                filling.written_bytes += u64::from(filling.sizes[*chunk]);
            }
            return false;
        }
        filling.unkept -= chunks.len();
        filling.unkept == 0
    }

    /// Notes that chunks that were taken are not on the disk: they are fetched again.
    pub fn lost(&mut self, pack: usize, chunks: &[usize]) {
        let filling = &mut self.packs[pack];
        for chunk in chunks {
            filling.chunks[*chunk] = Chunk::Missing;
            filling.fill_from = filling.fill_from.min(*chunk);
        }
        filling.missing += chunks.len();
    }

    /// Whether a chunk of a pack was written.
    pub fn has(&self, pack: usize, chunk: usize) -> bool {
        let filling = &self.packs[pack];
        let state = filling.chunks.get(chunk);
        filling.unkept == 0 || matches!(state, Some(Chunk::Written | Chunk::Kept))
    }

    /// Whether a pack has all its chunks, recorded.
    pub fn is_whole(&self, pack: usize) -> bool {
        self.packs[pack].unkept == 0
    }

    /// Forgets the chunks of a pack that has them all, recorded.
    pub fn forget(&mut self, pack: usize) {
        let filling = &mut self.packs[pack];
        (filling.chunks, filling.sizes) = (Vec::new(), Vec::new());
    }

    /// Whether nothing is under way or waited for.
    pub fn is_idle(&self) -> bool {
        self.under_way == 0 && self.demand.is_empty() && self.later.is_empty()
    }

    /// How many wait, how many requests are under way, and how many are to come.
    pub fn depth(&self) -> (usize, usize, usize) {
        let to_come = self.demand.len() + self.later.len();
        (self.waiters.len(), self.under_way, to_come)
    }
}

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << tries.min(10))
        .min(LONGEST_PAUSE)
}
