// SPDX-License-Identifier: Apache-2.0
//! Threads for reads that wait, so that those which wait for nothing are answered meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Reads that wait at a time; more wait for these. A kernel has no more than some 64 of its own under way, by which it reads
/// ahead; the others are of programs.
const MOST: usize = 256;
/// A thread that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Such threads, which begin as they are needed.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `job` done, which must not panic; gives it back if there is no thread for it.
    pub(super) fn run(self: &Arc<Self>, job: Job) -> Result<(), Job> {
        let mut state = self.state();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads >= MOST {
            self.wake.notify_one();
            return Ok(());
        }
        let pool = Arc::clone(self);
        match thread::Builder::new().spawn(move || pool.work()) {
            Ok(_) => state.threads += 1,
            // Others will do it, if there are any.
            Err(_) if state.threads > 0 => {}
            Err(_) => return state.jobs.pop_back().map_or(Ok(()), Err),
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state();
                continue;
            }
            state.idle += 1;
            let waited = self.wake.wait_timeout(state, IDLE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_waits_keeps_nobody_waiting() {
        let pool = Arc::new(Pool::default());
        let (end, ended) = channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let (done, all) = channel();
        for number in 0..40 {
            let (ended, done) = (Arc::clone(&ended), done.clone());
            let job = move || {
                if number % 2 == 0 {
                    let _ = ended.lock().unwrap().recv();
                }
                done.send(number % 2).unwrap();
            };
            assert!(pool.run(Box::new(job)).is_ok());
        }
        for _ in 0..20 {
            assert_eq!(all.recv_timeout(Duration::from_secs(20)), Ok(1));
        }
        assert!(all.try_recv().is_err());
        drop(end);
        for _ in 0..20 {
            assert_eq!(all.recv_timeout(Duration::from_secs(20)), Ok(0));
        }
        assert!(pool.state().threads <= 40);
    }
}
