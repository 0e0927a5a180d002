// SPDX-License-Identifier: Apache-2.0
//! What must not stay behind if a signal ends the process: files that are half made.
//!
//! Who makes them says how they are removed. The program, which gets the signal, has that done by
//! [`run`] in a thread of its own while others still work: so what is given here is to bear
//! that, as the removal of a directory does, after which nobody can make a file in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::mem;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// The jobs by number, and the next number.
static JOBS: Mutex<(BTreeMap<u64, Job>, u64)> = Mutex::new((BTreeMap::new(), 0));

fn jobs() -> MutexGuard<'static, (BTreeMap<u64, Job>, u64)> {
    // It is whole between any two statements.
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

type Receiver = Box<dyn Fn(i32) + Send>;

/// Who gets signals while that is there.
static RECEIVER: Mutex<Option<Receiver>> = Mutex::new(None);

fn receiver() -> MutexGuard<'static, Option<Receiver>> {
    // It is whole between any two statements.
    RECEIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signals go to a receiver until this is dropped.
#[must_use = "it ends when it is dropped"]
pub struct Passed(());

/// Has signals go to `receiver`, by their numbers, and not end this process: for the time that another program runs
/// which is to be ended by them.
pub fn pass_to(receiver_of: impl Fn(i32) + Send + 'static) -> Passed {
    *receiver() = Some(Box::new(receiver_of));
    Passed(())
}

impl Drop for Passed {
    fn drop(&mut self) {
        *receiver() = None;
    }
}

/// Passes a signal on, if somebody is to have it; whether somebody was.
pub fn pass(signal: i32) -> bool {
    let receiver = receiver();
    if let Some(receiver) = &*receiver {
        receiver(signal);
    }
    receiver.is_some()
}

/// Something that will be done if a signal comes before this is dropped.
#[must_use = "it ends when it is dropped"]
pub struct Guard(u64);

/// Has `job` done if a signal comes.
pub fn on_signal(job: impl FnOnce() + Send + 'static) -> Guard {
    add(&mut jobs(), job)
}

/// Makes something that `job` removes if a signal comes. None comes between.
pub(crate) fn make<T>(
    make: impl FnOnce() -> io::Result<T>,
    job: impl FnOnce() + Send + 'static,
) -> io::Result<(T, Guard)> {
    let mut jobs = jobs();
    let made = make()?;
    Ok((made, add(&mut jobs, job)))
}

fn add(jobs: &mut (BTreeMap<u64, Job>, u64), job: impl FnOnce() + Send + 'static) -> Guard {
    let (jobs, next) = jobs;
    *next += 1;
    jobs.insert(*next, Box::new(job));
    Guard(*next)
}

impl Guard {
    /// Takes back what was to be done, and does `last`, which no signal interrupts.
    pub fn finish<T>(self, last: impl FnOnce() -> T) -> T {
        let mut jobs = jobs();
        drop(jobs.0.remove(&self.0));
        let done = last();
        drop(jobs);
        done
    }
}

impl Drop for Guard {
    /// Waits without end if a signal has come: whoever failed because what it made was
    /// removed has nothing more to say.
    fn drop(&mut self) {
        let job = jobs().0.remove(&self.0);
        drop(job);
    }
}

/// Does all that is to be done, the newest first. Whoever drops a [`Guard`] from now on waits until
/// the process ends, and so does whoever calls [`wait`].
pub fn run() {
    let mut jobs = jobs();
    while let Some((_, job)) = jobs.0.pop_last() {
        job();
    }
    mem::forget(jobs);
}

/// Goes on unless a signal has come.
pub fn wait() {
    drop(jobs());
}

/// Removes a directory in which others may still make files.
pub fn remove_dir(path: &Path) {
    for _ in 0..1000 {
        match fs::remove_dir_all(path) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound && !path.exists() => return,
            // A file was made meanwhile, or removed.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound
                ) => {}
            // The next run removes it.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::sync::Arc;

    #[test]
    fn signals_go_to_who_is_to_have_them() {
        let last = Arc::new(AtomicI32::new(0));
        assert!(!pass(15));
        let seen = Arc::clone(&last);
        let passed = pass_to(move |signal| seen.store(signal, Ordering::Relaxed));
        assert!(pass(2) && last.load(Ordering::Relaxed) == 2);
        drop(passed);
        assert!(!pass(15) && last.load(Ordering::Relaxed) == 2);
    }
}
