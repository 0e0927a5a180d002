// SPDX-License-Identifier: GPL-2.0

//! Work that several tasks do (`struct work_struct`): threads, or this one alone.

use std::cell::Cell;
use std::sync::Mutex;
use std::thread;

/// The most workers that help one task.
const MAX_HELPERS: usize = 7;

/// Who does the work.
#[derive(Clone, Copy, Debug)]
pub enum Tasks {
    /// So many tasks, of which only the caller's ever finds time. What it takes is counted.
    Alone(usize),
    /// So many threads.
    Threads(usize),
}

thread_local! {
    static TASKS: Cell<Tasks> = const { Cell::new(Tasks::Alone(1)) };
}

impl Tasks {
    /// From here on, for this thread.
    pub fn set(self) {
        TASKS.set(self);
    }
}

/// How many tasks [`for_each`] has at most, the caller's among them (`num_online_cpus`).
pub fn tasks() -> usize {
    let (Tasks::Alone(count) | Tasks::Threads(count)) = TASKS.get();
    count.clamp(1, MAX_HELPERS + 1)
}

/// Calls `run` with each of `items`, and returns when all are done: how many were done by others.
pub fn for_each<T: Send, F: Fn(&mut T) + Sync>(items: &mut [T], run: F) -> usize {
    let Tasks::Threads(_) = TASKS.get() else {
        items.iter_mut().for_each(run);
        return 0;
    };
    let len = items.len();
    let helpers = tasks().min(len).saturating_sub(1);
    let items = Mutex::new(items.iter_mut());
    let work = || {
        let mut count = 0;
        loop {
            let item = items.lock().expect("nobody panics with it").next();
            let Some(item) = item else { return count };
            run(item);
            count += 1;
        }
    };
    let ours = thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(work);
        }
        work()
    });
    len - ours
}
