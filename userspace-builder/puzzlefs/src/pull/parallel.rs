// SPDX-License-Identifier: Apache-2.0
//! Several requests at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// How many requests are under way at once.
pub const AT_ONCE: usize = 10;

/// Calls `work` for all `items`, some at a time; returns what came of them, in their order.
///
/// # Errors
///
/// The first one that happens. What has not begun by then does not begin.
pub fn parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let has_failed = AtomicBool::new(false);
    let done = Mutex::new(Vec::new());
    let run = || -> Result<()> {
        while let (Some((number, item)), false) =
            (step(&next, items), has_failed.load(Ordering::Relaxed))
        {
            let result = work(item);
            has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
            let result = result?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((number, result));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = 0..AT_ONCE.min(items.len());
        let threads: Vec<_> = threads.map(|_| scope.spawn(run)).collect();
        // All of them, before an error is returned.
        let ended: Vec<Result<()>> = threads.into_iter().map(join).collect();
        ended.into_iter().collect::<Result<()>>()
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The next of `items`, with its number.
pub fn step<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    Some((number, items.get(number)?))
}

/// What a thread returns; if it panics, so does this one.
pub fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    let panicked = |panic| std::panic::resume_unwind(panic);
    thread.join().unwrap_or_else(panicked)
}
