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

/// When to fetch.
#[derive(Default)]
pub struct Pace {
    /// Bytes that may come in a second which nobody waits for.
    rate: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Before that the rate is spent.
    spent_until: Option<Instant>,
    /// The disk is full, and before that nobody tries whether it still is.
    full_until: Option<Instant>,
}

impl Pace {
    /// With so many bytes in a second that nobody waits for; without `rate`, as many as come.
    pub fn new(rate: Option<u64>) -> Self {
        Pace {
            rate: rate.map(|rate| rate.max(1)),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests that nobody waits for may be under way, of `most`.
    pub fn fillers(&self, most: usize) -> usize {
        if self.rate.is_none() {
            return most;
        }
        // Each takes what it gets, and is paid for afterwards: so there is one.
        let is_spent = |until: Instant| Instant::now() < until;
        let is_spent = self.state().spent_until.is_some_and(is_spent);
        usize::from(!is_spent).min(most)
    }

    /// So many bytes came that nobody waited for.
    pub fn spend(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::try_from_secs_f64(bytes as f64 / rate as f64);
        let cost = cost.unwrap_or(Duration::MAX).min(LONGEST);
        let mut state = self.state();
        let now = Instant::now();
        let from = state.spent_until.map_or(now, |until| until.max(now));
        state.spent_until = from.checked_add(cost);
    }

    /// Whether one who has nothing to do may look for something: of a full disk one does now and then.
    pub fn may_fetch(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        match state.full_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.full_until = Some(now + PROBE);
                true
            }
            None => true,
        }
    }

    /// Notes that the disk is full; whether it is news.
    pub fn full(&self) -> bool {
        let until = Instant::now() + PROBE;
        self.state().full_until.replace(until).is_none()
    }

    /// Notes that something could be written; whether the disk was full before.
    pub fn written(&self) -> bool {
        self.state().full_until.take().is_some()
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        self.state().full_until.is_some()
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
    }

    #[test]
    fn of_a_full_disk_one_tries_now_and_then() {
        let pace = Pace::new(None);
        assert!(pace.may_fetch() && !pace.is_full() && !pace.written());
        assert!(pace.full() && !pace.full() && pace.is_full());
        assert!(!pace.may_fetch());
        pace.state().full_until = Some(Instant::now());
        assert!(pace.may_fetch() && !pace.may_fetch() && pace.is_full());
        assert!(pace.written() && !pace.is_full() && pace.may_fetch());
    }
}
