// SPDX-License-Identifier: GPL-2.0

//! The current task.

use crate::bindings;

/// Whether a fatal signal waits for the current task: what takes long had better end.
/// Lets others run first, so that a loop that asks is no soft lockup.
pub fn killed() -> bool {
    // SAFETY: Only looks at the current task, in whose context all of this crate runs.
    unsafe { bindings::vfs_rs_killed() }
}
