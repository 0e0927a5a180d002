// SPDX-License-Identifier: Apache-2.0
//! Who is told of reads.

use std::ffi::CStr;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::event::{Event, Events};

// linux/fanotify.h.
const FAN_CLOEXEC: u32 = 0x1;
const FAN_NONBLOCK: u32 = 0x2;
const FAN_CLASS_NOTIF: u32 = 0;
const FAN_CLASS_PRE_CONTENT: u32 = 0x8;
const FAN_UNLIMITED_QUEUE: u32 = 0x10;
const FAN_MARK_ADD: u32 = 0x1;
const FAN_MARK_ONLYDIR: u32 = 0x8;
const FAN_MARK_MOUNT: u32 = 0x10;
const FAN_MARK_IGNORED_SURV_MODIFY: u32 = 0x40;
const FAN_MARK_IGNORE: u32 = 0x400;
const FAN_OPEN: u64 = 0x20;
const FAN_PRE_ACCESS: u64 = 0x0010_0000;
const FAN_EVENT_ON_CHILD: u64 = 0x0800_0000;
const FAN_ALLOW: u32 = 1;
const FAN_DENY: u32 = 2;
const FAN_ERRNO_SHIFT: u32 = 24;

/// Bytes for some hundred events.
const BUFFER: usize = 16 << 10;

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes on.
    Allow,
    /// It fails with `EIO`.
    Fail,
}

/// Who is told of reads. When the last descriptor of it is closed, all reads go on that wait.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Group {
    /// A group that watches nothing yet. Its descriptor does not block, and its queue has no end.
    ///
    /// # Errors
    ///
    /// `EPERM` for whoever has not `CAP_SYS_ADMIN` in the first user namespace, `EINVAL` where the kernel has no
    /// pre-content events.
    pub fn new() -> Result<Self> {
        Self::of_class(FAN_CLASS_PRE_CONTENT)
    }

    /// A group that is only told of what it watches, and answers nothing: its events wait for nobody.
    ///
    /// # Errors
    ///
    /// As of [`Group::new`].
    pub fn of_notes() -> Result<Self> {
        Self::of_class(FAN_CLASS_NOTIF)
    }

    fn of_class(class: u32) -> Result<Self> {
        let flags = class | FAN_UNLIMITED_QUEUE | FAN_CLOEXEC | FAN_NONBLOCK;
        // Nobody waits for the other end of a pipe.
        let access = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let access = access as u32;
        // SAFETY: fanotify_init(2) takes two numbers and touches no memory of ours.
        #[allow(unsafe_code, reason = "a system call that rustix does not have")]
        let fd = checked(unsafe { libc::fanotify_init(flags, access) })?;
        Ok(Group::from(own(fd)))
    }

    /// Watches the reads of all files in a directory, those too that come into it later. A file that was opened before
    /// makes no events.
    ///
    /// # Errors
    ///
    /// `EINVAL` or `EOPNOTSUPP` where the filesystem or the kernel has no pre-content events.
    pub fn watch_dir(&self, dir: impl AsFd) -> Result<()> {
        let flags = FAN_MARK_ADD | FAN_MARK_ONLYDIR;
        self.mark(
            flags,
            FAN_PRE_ACCESS | FAN_EVENT_ON_CHILD,
            dir.as_fd(),
            Some(c"."),
        )
    }

    /// Notes each file that is opened by the mount that `dir` is on.
    ///
    /// # Errors
    ///
    /// What fanotify_mark(2) says.
    pub fn watch_opens(&self, dir: impl AsFd) -> Result<()> {
        let flags = FAN_MARK_ADD | FAN_MARK_MOUNT;
        self.mark(flags, FAN_OPEN, dir.as_fd(), Some(c"."))
    }

    /// Makes no events of a file any more, however it changes.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn ignore(&self, file: impl AsFd) -> Result<()> {
        let flags = FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY;
        self.mark(flags, FAN_PRE_ACCESS, file.as_fd(), None)
    }

    /// `path` is relative to `at`; without one it is `at` itself.
    fn mark(&self, flags: u32, mask: u64, at: BorrowedFd<'_>, path: Option<&CStr>) -> Result<()> {
        let path = path.map_or(std::ptr::null(), CStr::as_ptr);
        let (group, at) = (self.fd.as_raw_fd(), at.as_raw_fd());
        // SAFETY: both descriptors are open as long as they are borrowed, and `path` is null, which fanotify_mark(2)
        // takes for the descriptor itself, or a string with its NUL that lives to the end of the call.
        #[allow(unsafe_code, reason = "a system call that rustix does not have")]
        checked(unsafe { libc::fanotify_mark(group, flags, mask, at, path) }).map(drop)
    }

    /// Reads events that have come, none if there are none: then poll(2) tells when there are.
    ///
    /// # Errors
    ///
    /// What read(2) says: `EAGAIN` is none of them.
    pub fn read(&mut self) -> Result<Events<'_>> {
        let read = match rustix::io::read(&self.fd, &mut self.buffer[..]) {
            Err(rustix::io::Errno::AGAIN) => 0,
            read => read?,
        };
        Ok(Events::new(&self.buffer[..read], own))
    }

    /// Answers an event. One whose reader was killed meanwhile is none any more, and that is no error.
    ///
    /// # Errors
    ///
    /// What write(2) says: then the reader waits still.
    pub fn answer(&self, event: Event, answer: Answer) -> Result<()> {
        self.answer_number(event.file.as_raw_fd(), answer)
    }

    /// Lets a read fail of which an earlier process was told, and nothing is known but the number that its descriptor
    /// may have had. If there is none, that is no error.
    ///
    /// # Errors
    ///
    /// What write(2) says: then the reader waits still.
    pub fn fail(&self, number: RawFd) -> Result<()> {
        self.answer_number(number, Answer::Fail)
    }

    fn answer_number(&self, number: RawFd, answer: Answer) -> Result<()> {
        let answer = match answer {
            Answer::Allow => FAN_ALLOW,
            Answer::Fail => FAN_DENY | ((libc::EIO as u32) << FAN_ERRNO_SHIFT),
        };
        // struct fanotify_response
        let mut response = [0; 8];
        response[..4].copy_from_slice(&number.to_ne_bytes());
        response[4..].copy_from_slice(&answer.to_ne_bytes());
        match rustix::io::write(&self.fd, &response) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<OwnedFd> for Group {
    /// A group that was open before, as after a restart of its listener.
    fn from(fd: OwnedFd) -> Self {
        Group {
            fd,
            buffer: vec![0; BUFFER],
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn checked(result: libc::c_int) -> Result<RawFd> {
    match result {
        0.. => Ok(result),
        _ => Err(Error::last_os_error()),
    }
}

/// Takes over a descriptor that the kernel has just given.
fn own(fd: RawFd) -> OwnedFd {
    #[allow(unsafe_code, reason = "descriptors that come in bytes")]
    // SAFETY: both callers pass a descriptor that a system call of theirs has just opened, fanotify_init(2) or a
    // read(2) of a group: it is open, and nobody else has it.
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}
