// SPDX-License-Identifier: GPL-2.0

//! The current task.

use crate::bindings;

/// Whether a fatal signal waits for the current task. Work that takes long should end then.
/// Lets others run first, so that a loop that asks is no soft lockup.
pub fn killed() -> bool {
    // SAFETY: Only looks at the current task, in whose context all of this crate runs.
    unsafe { bindings::vfs_rs_killed() }
}

/// Calls `function` so that what it allocates makes no filesystem read or write to get memory
/// (`memalloc_nofs_save`). For who holds what a reader waits for, a folio or a bit lock: taking
/// back an inode of a filesystem that lies on a file of ours, by devices that write in between,
/// could be to read that file. For readahead the page cache does so itself.
pub fn without_fs_reclaim<R>(function: impl FnOnce() -> R) -> R {
    // SAFETY: Only flags of the current task, which are put back below, on the same task.
    let flags = unsafe { bindings::vfs_rs_nofs_save() };
    let result = function();
    // SAFETY: As above; calls nest, as functions do.
    unsafe { bindings::vfs_rs_nofs_restore(flags) };
    result
}
