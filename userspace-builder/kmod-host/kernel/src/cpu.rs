// SPDX-License-Identifier: GPL-2.0

//! Processors.

use std::cell::Cell;

thread_local! {
    static IDS: Cell<u32> = const { Cell::new(2) };
}

/// How many processors there may be (`nr_cpu_ids`): 2, unless this thread has set another number.
pub fn nr_cpu_ids() -> u32 {
    IDS.get()
}

/// Says how many they are, for this thread.
pub fn set_nr_cpu_ids(count: u32) {
    IDS.set(count);
}
