// SPDX-License-Identifier: GPL-2.0

//! The current task, which is a thread here. A test can have it killed.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

thread_local! {
    static KILLED: Arc<AtomicBool> = Arc::default();
    static DIES_IN: Cell<Option<u64>> = const { Cell::new(None) };
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Whether a fatal signal waits for the current task (`fatal_signal_pending`).
pub fn killed() -> bool {
    LOOKS.set(LOOKS.get() + 1);
    match DIES_IN.get() {
        Some(0) => true,
        Some(left) => {
            DIES_IN.set(Some(left - 1));
            is_killed()
        }
        None => is_killed(),
    }
}

/// The same, for who waits: it is not a look that somebody has thought of.
pub(crate) fn is_killed() -> bool {
    DIES_IN.get() == Some(0) || KILLED.with(|killed| killed.load(Ordering::Relaxed))
}

/// How often the current task has looked.
pub fn looks() -> u64 {
    LOOKS.get()
}

/// Has the current task killed when it has looked so often, or not at all.
pub fn dies_in(looks: Option<u64>) {
    DIES_IN.set(looks);
}

/// What kills the current task, for another one.
pub fn killer() -> Arc<AtomicBool> {
    KILLED.with(Arc::clone)
}

/// Calls `function` (`memalloc_nofs_save`). Nothing is reclaimed here by who allocates.
pub fn without_fs_reclaim<R>(function: impl FnOnce() -> R) -> R {
    function()
}
