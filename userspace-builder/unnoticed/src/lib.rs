// SPDX-License-Identifier: Apache-2.0
//! A process beside the first one of a container, of which that one is not told; and namespaces of the calling process
//! alone.

use std::fs;
use std::io;
use std::num::NonZero;

use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;

/// `__WALL` of wait(2): children that do not signal their end, too.
const ALL: u32 = 0x4000_0000;

/// A process that [`fork()`] has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child(Pid);

impl Child {
    /// Its number.
    pub fn id(self) -> NonZero<i32> {
        self.0.as_raw_nonzero()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It is none of this process.
    pub fn wait(self) -> io::Result<()> {
        loop {
            let options = WaitOptions::from_bits_retain(ALL);
            match rustix::process::waitpid(Some(self.0), options) {
                Err(rustix::io::Errno::INTR) => {}
                waited => return Ok(waited.map(|_| ())?),
            }
        }
    }
}

/// Makes a process that is a copy of this one: in it this returns `None`. It does not signal its end to this one, and
/// wait(2) does not know of it unless `__WALL` or `__WCLONE` is said: so what this one executes later can have children of
/// its own and wait for all of them.
///
/// # Errors
///
/// This process has several threads: the others would not be there in the copy, and what they hold would never be free.
pub fn fork() -> io::Result<Option<Child>> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("this process has several threads"));
    }
    // SAFETY: the flags are none, the signal at the end is none, and the other arguments are not used then: the child is
    // a copy of this process with memory of its own, as fork(2) makes it. There is no other thread, as was just found, so
    // nothing in that memory is held by one that is not there in the child.
    #[allow(unsafe_code)]
    let made = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    match i32::try_from(made).map(Pid::from_raw) {
        Ok(None) if made == 0 => Ok(None),
        Ok(Some(pid)) if made > 0 => Ok(Some(Child(pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives this process a user namespace and a mount namespace of its own.
///
/// # Errors
///
/// The kernel, or a filter of system calls, does not allow it; this process has several threads.
pub fn unshare() -> io::Result<()> {
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    // SAFETY: only to unshare the table of descriptors could make those of others mean something else. These flags leave
    // it alone.
    #[allow(unsafe_code)]
    let unshared = unsafe { rustix::thread::unshare_unsafe(flags) };
    Ok(unshared?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(fork().is_err());
        drop(end);
        assert!(other.join().unwrap().is_err());
    }
}
