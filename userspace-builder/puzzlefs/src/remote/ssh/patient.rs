// SPDX-License-Identifier: Apache-2.0
//! Reading from somebody who may say nothing any more.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// A pipe that is read from, as long as something comes.
pub struct Patient<R> {
    pipe: R,
    /// How long nothing may come, before a read fails.
    pub patience: Duration,
}

impl<R> Patient<R> {
    /// Waits for `patience` at most.
    pub fn new(pipe: R, patience: Duration) -> Self {
        Patient { pipe, patience }
    }
}

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = Timespec::try_from(self.patience).map_err(io::Error::other)?;
        loop {
            let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Err(Errno::INTR) => {}
                Ok(0) => {
                    let text = format!("nothing came for {} s", self.patience.as_secs());
                    return Err(io::Error::new(ErrorKind::TimedOut, text));
                }
                polled => {
                    polled?;
                    return self.pipe.read(buffer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Patient::new(ours, Duration::from_millis(50));
        let mut byte = [0];
        let error = ours.read(&mut byte).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        theirs.write_all(b"x").unwrap();
        assert_eq!(ours.read(&mut byte).unwrap(), 1);
        drop(theirs);
        assert_eq!(ours.read(&mut byte).unwrap(), 0);
    }
}
