// SPDX-License-Identifier: Apache-2.0
//! Descriptors that a service manager passes (sd_listen_fds(3)).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of the first one.
const FIRST: RawFd = 3;

/// Whether they were taken: nobody owns a descriptor twice.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the first `count` descriptors that were passed to this process, in their order, once: whoever asks again
/// gets none. Programs that it starts do not get them.
///
/// It is for the beginning of a program, which has opened nothing itself. Numbers behind which nothing is open end the
/// list.
pub fn inherited(count: usize) -> Vec<OwnedFd> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let numbers = (FIRST..).take(count);
    numbers.map_while(take).collect()
}

fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl(2) with F_SETFD takes numbers, and touches no memory of ours.
    #[allow(unsafe_code, reason = "descriptors that are known by their numbers")]
    let set = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if set < 0 {
        return None;
    }
    // SAFETY: it is open, as fcntl(2) has just said. Whoever has started this process passed it on, and nobody in it has
    // opened it; that it is taken over once sees `TAKEN` to.
    #[allow(unsafe_code, reason = "descriptors that are known by their numbers")]
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
