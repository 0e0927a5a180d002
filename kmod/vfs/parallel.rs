// SPDX-License-Identifier: GPL-2.0

//! Work that idle processors help with (`struct work_struct`).

use crate::bindings;
use core::mem::MaybeUninit;
use kernel::sync::atomic::{Atomic, Relaxed};

/// The most workers that help one task.
const MAX_HELPERS: usize = 7;

/// How many tasks [`for_each`] has at most, the caller's among them.
pub fn tasks() -> usize {
    // SAFETY: Only reads a number.
    let online = unsafe { bindings::vfs_rs_num_online_cpus() };
    usize::try_from(online)
        .unwrap_or(1)
        .clamp(1, MAX_HELPERS + 1)
}

/// Calls `run` with each of `items`, in this task and in workers of the kernel's unbound
/// queue, and returns when all are done: how many of them were the workers'.
///
/// An item belongs to whoever comes for it first, and a worker that has not begun when none is
/// left is not waited for. So nothing depends on a worker: where no processor is idle, or no
/// worker can be made for want of memory, the caller does it all.
///
/// A worker has neither the caller's credentials nor its memory cgroup: `run` must neither open,
/// read nor allocate anything.
pub fn for_each<T: Send, F: Fn(&mut T) + Sync>(items: &mut [T], run: F) -> usize {
    let helpers = tasks().min(items.len()).saturating_sub(1);
    let jobs = Jobs {
        items: items.as_mut_ptr(),
        len: items.len(),
        next: Atomic::new(0),
        run,
    };
    let mut works = [const { MaybeUninit::<Helper<T, F>>::uninit() }; MAX_HELPERS];
    let works = works.get_mut(..helpers).unwrap_or_default();
    for work in works.iter_mut() {
        let helper = work.as_mut_ptr();
        // SAFETY: The memory is ours. It stays where it is until the work is cancelled, below,
        // which also ends the worker's use of `jobs`.
        unsafe {
            (&raw mut (*helper).jobs).write(&jobs);
            bindings::vfs_rs_queue_on_stack(&raw mut (*helper).work, Some(Helper::<T, F>::run));
        }
    }
    let ours = jobs.run();
    for work in works {
        // SAFETY: It was initialised and queued above. Once it is cancelled no worker has
        // begun it, or the one that had has ended, and what it did is seen here.
        unsafe { bindings::vfs_rs_cancel_on_stack(&raw mut (*work.as_mut_ptr()).work) };
    }
    items.len().saturating_sub(ours)
}

/// Items that several tasks share.
struct Jobs<T, F> {
    items: *mut T,
    len: usize,
    /// The first item that nobody has come for.
    next: Atomic<usize>,
    run: F,
}

impl<T: Send, F: Fn(&mut T) + Sync> Jobs<T, F> {
    /// Does what nobody else does. Returns how many that was.
    fn run(&self) -> usize {
        let mut count = 0;
        loop {
            let index = self.next.fetch_add(1, Relaxed);
            if index >= self.len {
                return count;
            }
            // SAFETY: There are `len` items, borrowed by `for_each`, and each index is given
            // to one task only.
            (self.run)(unsafe { &mut *self.items.add(index) });
            count += 1;
        }
    }
}

/// A worker's part in it.
#[repr(C)]
struct Helper<T, F> {
    work: bindings::work_struct,
    jobs: *const Jobs<T, F>,
}

impl<T: Send, F: Fn(&mut T) + Sync> Helper<T, F> {
    /// # Safety
    ///
    /// Only to be called by the workqueue, with the work of a `Self`.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work is the first field; `for_each` keeps the jobs until it has ended.
        unsafe { (*(*work.cast::<Self>()).jobs).run() };
    }
}
