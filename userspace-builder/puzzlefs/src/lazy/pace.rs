// SPDX-License-Identifier: Apache-2.0
//! When nothing is fetched: what nobody waits for, as somebody has set a rate; and anything, as the disk is full.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::error::Error;

/// How often it is tried whether a full disk has space again.
const PROBE: Duration = Duration::from_secs(2);

/// No rate makes anything wait for longer.
const LONGEST: Duration = Duration::from_secs(86_400);

/// So many bytes a second, in the mean: each takes what it gets, and is paid for by the time until the next one.
#[derive(Debug)]
pub struct Rate {
    /// None come if that is 0.
    bytes: u64,
    spent_until: Mutex<Option<Instant>>,
}

impl Rate {
    /// So many bytes in a second.
    pub fn new(bytes: u64) -> Self {
        Rate {
            bytes,
            spent_until: Mutex::default(),
        }
    }

    /// Bytes in a second.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        // It is whole between any two statements.
        self.spent_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing may come now.
    pub fn is_spent(&self) -> bool {
        self.bytes == 0 || self.until().is_some_and(|until| Instant::now() < until)
    }

    /// So many bytes are paid for from now on.
    pub fn spend(&self, bytes: u64) {
        let cost = Duration::try_from_secs_f64(bytes as f64 / self.bytes as f64);
        let cost = cost.unwrap_or(Duration::MAX).min(LONGEST);
        let mut until = self.until();
        let now = Instant::now();
        let from = until.map_or(now, |until| until.max(now));
        *until = from.checked_add(cost);
    }
}

/// Nobody has waited for so long: what has begun runs, and what nobody waits for may come.
const QUIET: Duration = Duration::from_secs(2);
/// Readers who wait again and again for longer do not start something, they read all: this is faster then.
const LONGEST_START: Duration = Duration::from_secs(10);

/// Whether a program starts, which then has the line for itself.
#[derive(Default)]
pub struct Starts {
    /// When somebody waited, for the first time and for the last one.
    waited: Option<(Instant, Instant)>,
}

impl Starts {
    /// Somebody waits, or is about to, as there is something new to read.
    pub fn waits(&mut self, now: Instant) {
        let first = match self.waited {
            Some((first, last)) if now.saturating_duration_since(last) < QUIET => first,
            _ => now,
        };
        self.waited = Some((first, now));
    }

    /// How many requests that nobody waits for may be under way, of `most`.
    pub fn fillers(&self, most: usize, now: Instant) -> usize {
        match self.waited {
            Some((first, last)) if now.saturating_duration_since(last) < QUIET => {
                usize::from(last.saturating_duration_since(first) >= LONGEST_START).min(most)
            }
            _ => most,
        }
    }
}

/// When to fetch.
#[derive(Default)]
pub struct Pace {
    /// Of what nobody waits for.
    rate: Option<Rate>,
    /// The disk is full, and before that nobody tries whether it still is.
    full_until: Mutex<Option<Instant>>,
}

impl Pace {
    /// With so many bytes in a second that nobody waits for; without `rate`, as many as come.
    pub fn new(rate: Option<u64>) -> Self {
        Pace {
            rate: rate.map(|rate| Rate::new(rate.max(1))),
            full_until: Mutex::default(),
        }
    }

    /// Bytes in a second that nobody waits for, if they are limited.
    pub fn rate(&self) -> Option<u64> {
        self.rate.as_ref().map(Rate::bytes)
    }

    fn full_until(&self) -> MutexGuard<'_, Option<Instant>> {
        // It is whole between any two statements.
        self.full_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests that nobody waits for may be under way, of `most`.
    pub fn fillers(&self, most: usize) -> usize {
        match &self.rate {
            None => most,
            // What it gets is known afterwards: so there is one.
            Some(rate) => usize::from(!rate.is_spent()).min(most),
        }
    }

    /// So many bytes came that nobody waited for.
    pub fn spend(&self, bytes: u64) {
        if let Some(rate) = &self.rate {
            rate.spend(bytes);
        }
    }

    /// Whether one who has nothing to do may look for something: of a full disk one does now and then.
    pub fn may_fetch(&self) -> bool {
        let mut full_until = self.full_until();
        let now = Instant::now();
        match *full_until {
            Some(until) if now < until => false,
            Some(_) => {
                *full_until = Some(now + PROBE);
                true
            }
            None => true,
        }
    }

    /// Notes that the disk is full, and calls `tell` if that is news. No other change comes between the two, so what is
    /// told last is so.
    pub fn full(&self, tell: impl FnOnce()) {
        let until = Instant::now() + PROBE;
        let mut full_until = self.full_until();
        if full_until.replace(until).is_none() {
            tell();
        }
    }

    /// Notes that something could be written, and calls `tell` if the disk was full before; as above.
    pub fn written(&self, tell: impl FnOnce()) {
        let mut full_until = self.full_until();
        if full_until.take().is_some() {
            tell();
        }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        self.full_until().is_some()
    }
}

/// Whether an error says that there is no space.
pub fn is_full(error: &Error) -> bool {
    matches!(
        error.system(),
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_paid_for_afterwards() {
        let pace = Pace::new(Some(1 << 20));
        assert_eq!(pace.fillers(4), 1);
        pace.spend(1 << 30);
        assert_eq!(pace.fillers(4), 0);
        let pace = Pace::new(Some(1 << 20));
        pace.spend(1 << 10);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(pace.fillers(4), 1);
        let free = Pace::new(None);
        free.spend(u64::MAX);
        assert_eq!(free.fillers(4), 4);
        Pace::new(Some(0)).spend(u64::MAX);
        let none = Rate::new(0);
        none.spend(1);
        assert!(none.is_spent());
    }

    #[test]
    fn who_starts_has_the_line_and_who_reads_on_shares_it() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut starts = Starts::default();
        assert_eq!(starts.fillers(4, begin), 4);
        starts.waits(begin);
        assert_eq!(starts.fillers(4, at(1999)), 0);
        assert_eq!(starts.fillers(4, at(2000)), 4);
        // Each second again: one request more than those that are waited for, after ten of them.
        for second in 0..=20 {
            starts.waits(at(5000 + second * 1000));
            let most = usize::from(second >= 10);
            assert_eq!(starts.fillers(4, at(5999 + second * 1000)), most);
        }
        assert_eq!(starts.fillers(0, at(25_500)), 0);
        assert_eq!(starts.fillers(4, at(27_000)), 4);
        // What begins after that is a start again.
        starts.waits(at(27_000));
        assert_eq!(starts.fillers(4, at(28_000)), 0);
    }

    #[test]
    fn of_a_full_disk_one_tries_now_and_then() {
        let pace = Pace::new(None);
        let told = |change: &dyn Fn(&Pace, &mut u32)| {
            let mut count = 0;
            change(&pace, &mut count);
            count
        };
        let full = |pace: &Pace, count: &mut u32| pace.full(|| *count += 1);
        let written = |pace: &Pace, count: &mut u32| pace.written(|| *count += 1);
        assert!(pace.may_fetch() && !pace.is_full() && told(&written) == 0);
        assert!(told(&full) == 1 && told(&full) == 0 && pace.is_full());
        assert!(!pace.may_fetch());
        *pace.full_until() = Some(Instant::now());
        assert!(pace.may_fetch() && !pace.may_fetch() && pace.is_full());
        assert!(told(&written) == 1 && !pace.is_full() && pace.may_fetch());
    }

    #[test]
    fn what_is_told_last_is_so() {
        let (pace, told) = (Pace::new(None), Mutex::new(None));
        std::thread::scope(|threads| {
            for thread in 0..4 {
                let (pace, told) = (&pace, &told);
                threads.spawn(move || {
                    for _ in 0..2000 {
                        let tell = |is_full| {
                            let before = told.lock().unwrap().replace(is_full);
                            assert_ne!(before, Some(is_full), "told twice");
                        };
                        match thread % 2 {
                            0 => pace.full(|| tell(true)),
                            _ => pace.written(|| tell(false)),
                        }
                    }
                });
            }
        });
        assert_eq!(told.into_inner().unwrap(), Some(pace.is_full()));
    }
}
